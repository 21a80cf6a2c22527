"""A log, or a part of it, as a directory of compressed files that needs no database to be read and checked.

`records` knows the bytes of one file, `manifest` what the directory says about itself, `write` makes one, `source`
reads one. Whether the events in it can be believed is decided in `watchtower.audit`.
"""
