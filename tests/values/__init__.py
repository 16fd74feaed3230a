"""What goes in comes out, or is refused where it goes in: one property, over a grammar of types, by every way in."""
