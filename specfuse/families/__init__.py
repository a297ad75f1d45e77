"""Families: experts that a seed invents, what is asked of them, and how they are trained.

wording      the words that facts are made of, and the sentences that state them
description  a family: its skills, its members, and what each of them believes
invention    a family from a seed
questions    what is asked of a family, by kind
marking      how right an answer is, and whether it invents facts
registry     the shipped families, and which seeds are for choosing and which for reporting
examples, training, measuring   what a member learns, how, and whether it has
making       a family's directory: models, description, mesh

Nothing but training and measuring needs torch.
"""
