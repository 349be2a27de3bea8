"""The one way of an HTTP request through any function: routes, pipeline, dialects of answers, OpenAPI."""
