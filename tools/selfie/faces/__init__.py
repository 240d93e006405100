"""The face filter: how many faces a selfie shows, and where the largest is."""
