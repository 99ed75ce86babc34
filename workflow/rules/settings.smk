"""Settings as files, for the rules whose output depends on them.

The name of such a file contains a fingerprint of its content, so that a changed setting is a
missing input.
"""


rule settings:
    output:
        "{folder}/settings/{name}.{fingerprint}.json",
    log:
        "logs/{folder}/settings_{name}.{fingerprint}.log",
    wildcard_constraints:
        folder=r"data|results/.+",
        name="[^/]+",
        fingerprint="[0-9a-f]{16}",
    localrule: True
    params:
        content=lambda wildcards, output: SETTINGS_FILES[output[0]],
    shell:
        # Those of earlier settings go, so that they are missing when they come back.
        "(rm -f {wildcards.folder:q}/settings/{wildcards.name:q}.????????????????.json &&"
        " printf %s {params.content:q} > {output:q}) 2> {log:q}"
