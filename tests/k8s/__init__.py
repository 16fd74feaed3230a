"""What deploys odradek (Dockerfile, docker-compose.yml, helm/), judged by the tools that will read it."""
