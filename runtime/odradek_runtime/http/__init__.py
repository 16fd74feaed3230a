"""All that is spoken over HTTP: `ingress` is the ports for clients and for the app's other workers, `admin` the one for operators.

Stands between the wire and a worker's engine, which knows nothing of it.
"""
