"""SAM-Med3D's network under its published parameter names."""
