"""Face recognisers used as judges and as identity losses: one file each, all `facesr.protocols.Embedder`."""
