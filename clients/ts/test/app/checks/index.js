import { bytesChecks } from './bytes.js';
import { calls } from './calls.js';
import { reconnects } from './reconnects.js';
import { streams } from './streams.js';

/** Everything that has to hold, in Node and in a browser. */
export const checks = [...calls, ...streams, ...bytesChecks, ...reconnects];
