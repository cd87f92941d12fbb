export const reconnects = [];
