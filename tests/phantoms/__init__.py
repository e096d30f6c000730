"""What tests are made of: small images, datasets, DICOM objects, and foundations whose answers are known."""
