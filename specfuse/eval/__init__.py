"""Does fusing pay? Suites of questions, what is asked them, and what comes of it.

suites           what is asked, and what is right
configurations   ensembles to compare: the presets, and the ablations
meshes           a mesh of one's own whose fuser has all of them
records          an answered question, and the file that keeps each one as it is finished
asking           questions put to a mesh: an ensemble's answer, the best of whole responses
evaluation       everybody is asked everything, so many at a time; what was asked is not asked again
proportions      shares of questions, with confidence intervals
report           what the records come to. Pure: computed from them and nothing else
tables, charts   the report for people
"""
