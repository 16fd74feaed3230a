"""The odradek contenders."""
