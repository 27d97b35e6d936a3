"""HTTP server of an exported model: admission, micro-batching, routes and hot reload."""
