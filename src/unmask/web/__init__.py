"""`unmask serve`: inspection over HTTP, for one machine and the people who use it.

A local page and a REST interface over the same reports as the command line's. Uploads are streamed to a spool folder,
inspected by worker processes one at a time each, and forgotten after a while. Extra `web`.
"""
