"""text-generation-inference, which takes text only and scores what it is sent."""
