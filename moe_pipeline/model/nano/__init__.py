"""What nano adds to SAM-Med3D's network, so that it learns in hours what otherwise takes weeks."""
