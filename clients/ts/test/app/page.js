// The page of the browser test. It runs the checks and tells how each of them ended.
import { checks } from './checks/index.js';
import { World } from './checks/world.js';

const post = async (order) => {
	const response = await fetch('/order', { method: 'POST', body: JSON.stringify(order) });
	if (!response.ok) throw new Error(await response.text());
	return response.json();
};

let clients = 0;
const world = new World({
	// A module of another address is another module: every client has a state of its own.
	load: () => import(`/client.js?${++clients}`),
	address: (query) => ({ path: `/ws?${query}` }),
	order: post,
	settings: await post({ settings: true })
});

for (const { name, run } of checks) {
	let problem = null;
	try {
		await run(world);
	} catch (error) {
		problem = String(error?.stack ?? error);
	}
	world.closePages();
	await post({ result: { name, problem } });
}
await post({ result: null });
