"""A siege: an app under every attack at once for as long as one likes, honest clients beside it, and a judgement at the end."""
