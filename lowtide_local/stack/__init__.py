"""The deployed stack on one machine: template.yaml read as it is, its data plane on moto, its handlers wired."""
