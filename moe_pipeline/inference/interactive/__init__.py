"""One case, object by object: clicks in, masks out."""
