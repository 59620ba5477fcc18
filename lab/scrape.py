"""The body of a scrape as series and values, parsed by prometheus_client."""

from prometheus_client.parser import text_string_to_metric_families


class Scrape:
    """The metrics of one scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    @property
    def names(self) -> set[str]:
        """The names of all series, as they are written."""
        return {sample.name for sample in self._samples}

    def value(self, name: str, **labels: str) -> float:
        """Return the value of the only series with this name and at least these labels."""
        [value] = [
            sample.value for sample in self._samples if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return float(value)

    def values(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return the values of all series of a name, keyed by the values of labels that distinguish them."""
        found = [sample for sample in self._samples if sample.name == name]
        by_labels = {tuple(sample.labels[label] for label in labels): float(sample.value) for sample in found}
        assert len(by_labels) == len(found), f"{labels} do not tell the series of {name} apart"
        return by_labels

    def series(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        """Return the values of all series of a name, keyed by all of their labels."""
        return {
            frozenset(sample.labels.items()): float(sample.value) for sample in self._samples if sample.name == name
        }
