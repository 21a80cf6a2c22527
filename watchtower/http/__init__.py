"""The HTTP edge: Starlette routes over the use cases, problem documents, authentication, limits."""
