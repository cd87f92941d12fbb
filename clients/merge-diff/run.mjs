// One mode: random cases, the client's states and the driver's, and where they differ.
//   node run.mjs MODE CASES SEED
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { isDeepStrictEqual } from 'node:util';
import { generator } from './cases.mjs';
import { observe, useFrames } from './client.mjs';

const [mode, count, seed] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const driver = process.env.MERGE_DRIVER;
if (!driver) throw new Error('MERGE_DRIVER: the merge driver, cargo build -p millstream-merge --example vectors');
if (mode === 'frames') useFrames();

const engine = spawn(driver, { stdio: ['pipe', 'pipe', 'inherit'] });
const waiting = [];
let different = 0;
createInterface({ input: engine.stdout }).on('line', (line) => {
    const { scenario, seen } = waiting.shift();
    const ours = JSON.parse(line);
    const alike = isDeepStrictEqual(ours.expect, seen.expect)
        && isDeepStrictEqual(ours.throws ?? [], seen.throws)
        && (mode === 'extended' || isDeepStrictEqual(ours.notified, seen.notified));
    if (alike) return;
    different += 1;
    if (different <= 3) {
        console.error(JSON.stringify(scenario));
        console.error('  client', JSON.stringify(seen));
        console.error('  driver', JSON.stringify({ expect: ours.expect, notified: ours.notified, throws: ours.throws }));
    }
});

const make = generator(seed)[mode];
let [states, ended] = [0, new Promise((resolve) => engine.on('close', resolve))];
for (let n = 0; n < count; n += 1) {
    const scenario = make(`${mode} ${seed}/${n}`);
    const seen = await observe(scenario);
    states += seen.expect.length;
    waiting.push({ scenario, seen });
    if (!engine.stdin.write(JSON.stringify(scenario) + '\n')) {
        await new Promise((resolve) => engine.stdin.once('drain', resolve));
    }
}
engine.stdin.end();
await ended;
if (waiting.length > 0) throw new Error(`the driver left ${waiting.length} cases unanswered`);
console.log(`${mode}: ${count} cases, ${states} states, ${different} differ`);
process.exit(different > 0 ? 1 : 0);
