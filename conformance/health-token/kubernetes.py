"""Judges the documents for Kubernetes by its schemas, and evaluates the expressions in those of docs/health-token.md."""

import pathlib
import re
import sys

import cel
import kubernetes_validate
import yaml

VERSIONS = ["1.30", "1.34", "1.37"]
CLAIMS = {
    "sub": "0123456789abcdef" * 2,
    "submods": {
        "host": {
            "ear.status": "affirming",
            "ear.appraisal-policy-id": "sha-256:00",
            "ear.veraison.annotated-evidence": {"host-name": "host1"},
        }
    },
}


def expect(found, expected, of):
    if found != expected:
        sys.exit(f"{of}: {found!r}, and not {expected!r}")


def authenticate(configuration):
    """What the API server finds out about who sends a token with CLAIMS, by the page's configuration."""
    (issuer,) = configuration["jwt"]
    rules = [rule["expression"] for rule in issuer["claimValidationRules"]]
    expect([cel.evaluate(rule, {"claims": CLAIMS}) for rule in rules], [True], rules)
    unmeasured = {**CLAIMS, "submods": {"host": {"ear.status": "none"}}}
    expect([cel.evaluate(rule, {"claims": unmeasured}) for rule in rules], [False], rules)
    mappings = issuer["claimMappings"]
    value = lambda expression: cel.evaluate(expression, {"claims": CLAIMS})
    return {
        "username": value(mappings["username"]["expression"]),
        "groups": value(mappings["groups"]["expression"]),
        "extra": {extra["key"]: [value(extra["valueExpression"])] for extra in mappings["extra"]},
    }


def admit(policy, user, name):
    """Whether the page's policy lets a user have the lease with this name."""
    variables = {"request": {"userInfo": user}, "object": {"metadata": {"name": name}}}
    return [cel.evaluate(one["expression"], variables) for one in policy["spec"]["validations"]]


def main():
    root = pathlib.Path(sys.argv[1])
    page = (root / "docs/health-token.md").read_text(encoding="utf-8")
    of_page = [one for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) for one in yaml.safe_load_all(block)]
    configuration, policy, binding = of_page
    documents = [policy, binding]
    for file in sorted((root / "packaging").glob("*.yaml")):
        documents.extend(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    for version in VERSIONS:
        for document in documents:
            kubernetes_validate.validate(document, version, strict=True)
    expect(binding["spec"]["policyName"], policy["metadata"]["name"], "the policy of the binding")

    user = authenticate(configuration)
    expect(user["username"], "openhgs:" + CLAIMS["sub"], "username")
    expect(admit(policy, user, "host1"), [True], "its own lease")
    expect(admit(policy, user, "host2"), [False], "the lease of another host")
    stranger = {"groups": ["system:nodes"], "extra": {}}
    expect(admit(policy, stranger, "host1"), [False], "somebody who is no host")
    print(f"Kubernetes {', '.join(VERSIONS)}: {len(documents)} documents are valid, and the expressions decide as the page says")


main()
