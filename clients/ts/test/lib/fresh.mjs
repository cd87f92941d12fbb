// Loads a module and everything below it anew: a page of its own for every session.
import { register } from 'node:module';

const HOOK = `export async function resolve(name, context, next) {
	const found = await next(name, context);
	const page = /[?]page=\\d+$/.exec(context.parentURL ?? '');
	return page && found.url.startsWith('file:') ? { ...found, url: found.url + page[0] } : found;
}`;
register(`data:text/javascript,${encodeURIComponent(HOOK)}`);

let pages = 0;

/** The given modules as a page loads them that nobody has visited before. */
export function freshPage(...names) {
	const page = `?page=${++pages}`;
	return Promise.all(names.map((name) => import(import.meta.resolve(name) + page)));
}
