"""What crosses the process border as JSON: hexadecimal byte strings and the schemas of the HTTP API."""
