"""Makes what of the chart follows from its `values.yaml`: `python -m deploy.helm.generate`.

    values.schema.json     what values Helm takes; parts of it are the services' own settings
    README.md              its part below the marker: every value, with prose and default
    examples/*/golden.yaml what Helm makes of each example

A key of `values.yaml` is documented by the comment lines directly above it, in Markdown; a line `#`
alone ends a paragraph. Comment lines from `# @schema {...}` on are a fragment of JSON schema,
which is laid over what follows from the default:

    # How many replicas answer.
    # @schema {minimum: 1}
    replicas: 2

Where the default says nothing of the type, the fragment has to. `$ref` refers to what a service
takes, as in `fuser#/$defs/Ensemble`, or to another value, as in `#/properties/modelDefaults`. A
mapping whose fragment has `$ref`, `properties` or `additionalProperties`, or that is written as
`{a: b}`, is one value; the keys of any other are values of their own.
"""
