"""Does fusing pay? Suites of questions, the ways to answer them, and the results.

suites           what is asked, and what is right
configurations   ensembles to compare: the presets, and the ablations
meshes           the evaluation's own mesh, whose fuser has all of them
records          an answered question, and the file that keeps each one as it is finished
asking           questions put to a mesh: an ensemble's answer, the best of whole responses
evaluation       asks every system every question, several at a time, and none twice
proportions      shares of questions, with confidence intervals
report           what the records come to. Pure: computed from them and nothing else
tables, charts   the report for people
"""
