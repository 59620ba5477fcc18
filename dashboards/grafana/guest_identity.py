"""What is wrong with a guest now, and what it is: rows of the dashboard *KVM guest*."""

from settings import OF_FINGERPRINT, OF_MACHINE

from grafana.board import Row
from grafana.panels import Stat
from grafana.queries import JOBS, SHOWN, each, forbidden, missing
from grafana.tables import Column, Table
from grafana.values import ANSWERS, BAD, KVM_CLOCK, NEWS, PRESENT, SIGNATURE, SUCCEEDS, words

INSTANCE = "{{instance}}"

NOW = Row(
    height=5,
    panels=(
        Stat(
            title="Exporter",
            description="Whether Prometheus can scrape the machine; if not, all else is what was known before.",
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
            description="Whether KVM's signature was found.",
            queries={"present": each("kvm_present")},
            mappings=words(PRESENT),
            names=INSTANCE,
        ),
        Stat(
            title="Lost since boot",
            description="Features that were offered when this boot was first sampled, and are not now.",
            queries={"lost": each("kvm_boot_feature_changes", where='change="lost"')},
            thresholds=((1, BAD),),
            names=INSTANCE,
        ),
        Stat(
            title="Gained since boot",
            description="Features that were not offered when this boot was first sampled, and are now.",
            queries={"gained": each("kvm_boot_feature_changes", where='change="gained"')},
            thresholds=((1, NEWS),),
            names=INSTANCE,
        ),
        Stat(
            title="Signature",
            description="Whether the hypervisor bit, the signatures and their bases are those of boot.",
            queries={"signature": each("kvm_boot_signature_changed")},
            mappings=words(SIGNATURE),
            names=INSTANCE,
        ),
        Stat(
            title="CPUs that differ",
            description="Sampled CPUs that are offered something else than most.",
            queries={"divergent": each("kvm_cpus_divergent")},
            thresholds=((1, BAD),),
            names=INSTANCE,
        ),
        Stat(
            title="Against the baseline",
            description="Features that the baseline requires and are missing, or that it forbids and are offered.",
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
            description="Each hypervisor signature in the CPUID leaves, where it is, and the highest leaf there.",
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
            description="What stands for all that is offered, and how many of the cohort are offered the same.",
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
                Column(field="Value #machines", title="Alike"),
                Column(field="Value #share", title="Share", unit="percentunit"),
            ),
            sort=("Machine",),
        ),
        Table(
            title="Machine",
            description="When its boot was first sampled, its CPUs, its clock source, and KVM's word on frequencies.",
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
