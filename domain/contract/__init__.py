"""The byte-level channel contract, profile SCT-P: keys, scripts, transactions, states, signatures, proofs."""
