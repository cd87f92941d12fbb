// A headless Chromium that shows one page: the one named by CHROMIUM, or one in the usual places.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const CHROMIUM = process.env.CHROMIUM ?? PLACES.find(existsSync);
const OPTIONS = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'];

/** For the option `skip` of a test. */
export const withoutChromium = CHROMIUM ? false : 'no Chromium: name one with CHROMIUM';

/** Opens a page in a browser that nobody has used before. Returns how to close it. */
export async function openInBrowser(url) {
	const profile = mkdtempSync(join(tmpdir(), 'millstream-chromium-'));
	// What the browser keeps in the folder for temporary files goes with its profile.
	const env = { ...process.env, TMPDIR: profile };
	const browser = spawn(CHROMIUM, [...OPTIONS, `--user-data-dir=${profile}`, url], { stdio: 'ignore', env });
	// The browser's helpers end a little later than it does, and write until then.
	const forget = async (attempts = 100) => {
		try {
			rmSync(profile, { recursive: true, force: true });
		} catch (error) {
			if (attempts === 1) throw error;
			await sleep(50);
			await forget(attempts - 1);
		}
	};
	try {
		await new Promise((done, reject) => browser.once('spawn', done).once('error', reject));
	} catch (error) {
		await forget();
		throw error;
	}
	const ended = new Promise((done) => browser.once('exit', done));
	return async () => {
		browser.kill('SIGKILL');
		await ended;
		await forget();
	};
}
