"""What backends have in common whose model runs on a server of another project.

backend      the port `Backend`, on a server
opening      from settings to a backend that was tried out
trials       what a server can do, found by having it do it
watch        whether the server is there, and still the one that was tried out
server       what such a backend asks of its server: the port that each backend implements
proposals    generated tokens as a proposal
seeds        seeds as servers take them
client       HTTP: connections, time limits, retries, keys
answers      numbers out of JSON that may hold anything
loads        how busy a server is
gauges       numbers out of a server's own metrics
refusals     what a server says instead of an answer, as our errors
settings     the settings that all of them have
"""
