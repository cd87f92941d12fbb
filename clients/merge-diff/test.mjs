// A few thousand cases of each mode; MERGE_CASES and MERGE_SEED choose others.
import { spawnSync } from 'node:child_process';

const cases = process.env.MERGE_CASES ?? '3000';
const seed = process.env.MERGE_SEED ?? '1';
let failed = false;
for (const mode of ['live', 'frames', 'extended', 'history']) {
    const run = new URL('run.mjs', import.meta.url).pathname;
    const { status } = spawnSync(process.execPath, [run, mode, cases, seed], { stdio: 'inherit' });
    failed ||= status !== 0;
}
process.exit(failed ? 1 : 0);
