"""Tests of the store on a real PostgreSQL server, which the suite starts itself."""
