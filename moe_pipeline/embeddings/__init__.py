"""From cases to cached embeddings: the encoder is frozen, so each crop is encoded once."""
