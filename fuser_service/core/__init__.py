"""The rounds of a query as a pure state machine: no I/O, clock, randomness or framework.

types, rules, steps   the vocabulary: what is said, set, asked and answered
rounds                the state machine: start, proposed, scored
state, attendance     what is known of a query; who answered, failed or was late
candidates            proposals -> distinct candidates
words, contest        ... -> the word in which they differ, and what is left of drafts
shares, verdict       scores -> opinions -> fused shares -> winner
objections            how much of the winner's draft stands, and who has yet to be heard
commit                the winner joins the answer; what follows from it, and what it saved
weights, exits        who counts how much, who leaves, who comes back
watching              who drafts and who only judges
stops                 stop strings across segments, and what is held back
"""
