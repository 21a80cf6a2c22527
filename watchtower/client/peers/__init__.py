"""Links to other parties: listening, dialing, and calls that end when the peer has answered."""
