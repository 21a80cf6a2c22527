"""What a party decides and says, as functions of a seat: values in, events and messages out (protocol 5)."""
