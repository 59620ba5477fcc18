"""Current problems of a guest, and its identity: rows of the dashboard *KVM guest*."""

from settings import OF_FINGERPRINT, OF_MACHINE

from grafana.board import Row
from grafana.panels import Stat
from grafana.queries import JOBS, SHOWN, each, forbidden, missing
from grafana.tables import Column, Table
from grafana.values import ANSWERS, BAD, KEPT, KVM_CLOCK, NEWS, PRESENT, SIGNATURE, SUCCEEDS, words

INSTANCE = "{{instance}}"

NOW = Row(
    height=5,
    panels=(
        Stat(
            title="Exporter",
            description="Whether Prometheus can scrape the machine. If not, the other panels show old data.",
            queries={"up": each("up")},
            mappings=words(ANSWERS),
            names=INSTANCE,
        ),
        Stat(
            title="Sample",
            description="Whether the last attempt to sample the CPUID leaves succeeded.",
            queries={"success": each("kvm_exporter_sample_success")},
            mappings=words(SUCCEEDS),
            names=INSTANCE,
        ),
        Stat(
            title="Hypervisor",
            description="Whether the machine is offered KVM's signature.",
            queries={"present": each("kvm_present")},
            mappings=words(PRESENT),
            names=INSTANCE,
        ),
        Stat(
            title="Lost since boot",
            description="The features of the boot reference, the first sample of this boot, that are not offered now.",
            queries={"lost": each("kvm_boot_feature_changes", where='change="lost"')},
            thresholds=((1, BAD),),
            names=INSTANCE,
        ),
        Stat(
            title="Gained since boot",
            description="The features that are offered now, and not in the boot reference, this boot's first sample.",
            queries={"gained": each("kvm_boot_feature_changes", where='change="gained"')},
            thresholds=((1, NEWS),),
            names=INSTANCE,
        ),
        Stat(
            title="Signature",
            description="Whether hypervisor bit, signatures and bases are those of the boot reference.",
            queries={"signature": each("kvm_boot_signature_changed")},
            mappings=words(SIGNATURE),
            names=INSTANCE,
        ),
        Stat(
            title="CPUs that differ",
            description="The number of sampled CPUs that differ from the majority.",
            queries={"divergent": each("kvm_cpus_divergent")},
            thresholds=((1, BAD),),
            names=INSTANCE,
        ),
        Stat(
            title="Against the baseline",
            description="The number of features that are required but missing, or forbidden but offered.",
            queries={
                "against": f"""
count by ({OF_MACHINE}) (
{missing(SHOWN)}
or
{forbidden(SHOWN)}
)
or on ({OF_MACHINE})
0 * max by ({OF_MACHINE}) (kvm_present{{{SHOWN}}})
"""
            },
            thresholds=((1, BAD),),
            names=INSTANCE,
        ),
    ),
)

IDENTITY = Row(
    title="Identity",
    height=6,
    panels=(
        Table(
            title="Hypervisor signatures",
            description="Each hypervisor signature in the CPUID leaves, its base, and the highest leaf at that base.",
            queries={
                "signatures": each("kvm_signature_info", "signature", "base", "max_leaf"),
            },
            columns=(
                Column(field="instance", title="Machine"),
                Column(field="signature", title="Signature"),
                Column(field="base", title="Base"),
                Column(field="max_leaf", title="Highest leaf"),
            ),
            sort=("Machine", "Base"),
        ),
        Table(
            title="Fingerprint",
            description="The fingerprint of the feature set, and the machines of the cohort that have the same.",
            queries={
                "fingerprint": each("kvm_fingerprint_info", "fingerprint"),
                "share": f"""
max by ({OF_MACHINE}, fingerprint) (
  kvm_fingerprint_info{{{SHOWN}}}
  * on ({OF_FINGERPRINT}) group_left ()
  cohort_fingerprint:kvm_fingerprint_info:share{{{JOBS}}}
)
""",
                "machines": f"""
max by ({OF_MACHINE}, fingerprint) (
  kvm_fingerprint_info{{{SHOWN}}}
  * on ({OF_FINGERPRINT}) group_left ()
  cohort_fingerprint:kvm_fingerprint_info:count{{{JOBS}}}
)
""",
            },
            columns=(
                Column(field="instance", title="Machine"),
                Column(field="fingerprint", title="Fingerprint"),
                Column(field="Value #machines", title="Machines"),
                Column(field="Value #share", title="Share", unit="percentunit"),
            ),
            sort=("Machine",),
        ),
        Table(
            title="Machine",
            description="The time of the boot reference, online CPUs, clock source, frequencies reported by KVM.",
            queries={
                "boot": each("kvm_boot_reference_timestamp_seconds") + " * 1000",
                "cpus": each("kvm_cpus_online"),
                "clock": each("kvm_clocksource_current_is_kvmclock"),
                "tsc": each("kvm_tsc_frequency_hertz"),
                "bus": each("kvm_bus_frequency_hertz"),
            },
            columns=(
                Column(field="instance", title="Machine"),
                Column(field="Value #boot", title="First sampled", unit="dateTimeAsIso"),
                Column(field="Value #cpus", title="CPUs"),
                Column(field="Value #clock", title="Clock source", words=KVM_CLOCK),
                Column(field="Value #tsc", title="TSC", unit="hertz"),
                Column(field="Value #bus", title="Bus", unit="hertz"),
            ),
            sort=("Machine",),
        ),
    ),
)

REFERENCE = Row(
    height=5,
    panels=(
        Table(
            title="Boot reference",
            description=(
                "The first sample of this boot: when, how long after the boot, whether it outlives a restart of the "
                "exporter, its TSC frequency, and when the present difference from it was first seen. If it was taken "
                "late, it cannot tell what the kernel found at boot."
            ),
            queries={
                "taken": each("kvm_boot_reference_timestamp_seconds") + " * 1000",
                "uptime": each("kvm_boot_reference_uptime_seconds"),
                "kept": each("kvm_boot_reference_persistent"),
                "clock": each("kvm_boot_tsc_frequency_hertz"),
                "changed": each("kvm_boot_change_timestamp_seconds") + " * 1000",
            },
            columns=(
                Column(field="instance", title="Machine"),
                Column(field="Value #taken", title="First sampled", unit="dateTimeAsIso"),
                Column(field="Value #uptime", title="After the boot", unit="s"),
                Column(field="Value #kept", title="Kept", words=KEPT),
                Column(field="Value #clock", title="TSC then", unit="hertz"),
                Column(field="Value #changed", title="Changed since", unit="dateTimeAsIso"),
            ),
            sort=("Machine",),
        ),
    ),
)
