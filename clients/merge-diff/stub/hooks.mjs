// Stands in for the transport package, which the client under test imports by name.
const transport = new URL('./transport.mjs', import.meta.url).href;

export async function resolve(specifier, context, next) {
    if (specifier === 'svelte-adapter-uws/client') return { url: transport, shortCircuit: true };
    return next(specifier, context);
}
