"""The HTTP ingress and the admin port, on real sockets: first before a scripted engine, then before the real one."""
