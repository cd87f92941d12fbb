// What a page of the browser test loads anew for every client it plays.
export * as rt from 'svelte-realtime/client';
export * as transport from 'svelte-adapter-uws/client';
