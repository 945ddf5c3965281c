"""Past trades of one exchange over REST: gaps are repaired, ranges are fetched on request, all with what live calls
leave of the exchange's allowance."""
