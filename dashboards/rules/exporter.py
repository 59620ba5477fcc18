"""Alerts on exporters: what cannot be scraped, sampled or served."""

from settings import Settings

from rules.rule import THIS, VALUE, Alert


def exporter_alerts(settings: Settings) -> tuple[Alert, ...]:
    """Return the alerts."""
    return (
        Alert(
            name="KvmExporterDown",
            expression=f"up{{{settings.exporters}}} == 0",
            wait="10m",
            severity="warning",
            summary=f"The exporter on {THIS} cannot be scraped",
            description=f"The features of {THIS} are unknown: no new problem on it can be found. Check the service.",
        ),
        Alert(
            name="KvmExporterSampleFailing",
            expression="kvm_exporter_sample_success == 0",
            wait="5m",
            severity="warning",
            summary=f"The KVM CPUID leaves of {THIS} cannot be sampled",
            description=(
                f"{THIS} serves the last good sample, or, if no CPU can be read, what an unpinned thread reads. The "
                "exporter's log has the reason."
            ),
        ),
        Alert(
            name="KvmExporterSampleStale",
            expression=f"""
timestamp(kvm_exporter_sample_timestamp_seconds) - kvm_exporter_sample_timestamp_seconds
> {settings.stale_ages} * (kvm_exporter_sample_max_age_seconds > 0) + {settings.stale_seconds}
""",
            wait="5m",
            severity="warning",
            summary=f"The sample of {THIS} is too old",
            description=(
                f"The sample of {THIS} was {{{{ $value | humanizeDuration }}}} old when it was scraped, by the clocks "
                "of the machine and of Prometheus. Check the clock of the machine first, then the exporter's log."
            ),
        ),
        Alert(
            name="KvmCpusUnreadable",
            expression='kvm_cpus{state="failed"} > 0',
            wait="15m",
            severity="warning",
            summary=f"CPUs of {THIS} cannot be read",
            description=(
                f"Number of CPUs of {THIS} that could not be read: {VALUE}. What the hypervisor offers there is "
                "unknown. The exporter's log has the cause. Remove the cause, or exclude the CPUs with --sample.cpus."
            ),
        ),
        Alert(
            name="KvmBootReferenceVolatile",
            expression="kvm_boot_reference_persistent == 0",
            wait="1h",
            severity="info",
            summary=f"The boot reference of {THIS} is in memory only",
            description=(
                f"When the exporter on {THIS} restarts, it takes a new boot reference: alerts on drift resolve "
                "although the drift lasts. Set RuntimeDirectory= and RuntimeDirectoryPreserve=yes in its unit, or use "
                "--reference.directory."
            ),
        ),
        Alert(
            name="KvmExporterWebConfigReloadFailing",
            expression="kvm_exporter_web_config_last_reload_successful == 0",
            wait="5m",
            severity="warning",
            summary=f"The exporter on {THIS} cannot load its new web configuration",
            description=(
                f"{THIS} keeps the previous web configuration, including its certificate. Correct the file; no restart "
                "is needed."
            ),
        ),
        Alert(
            name="KvmExporterCertificateExpiring",
            expression=f"""
kvm_exporter_web_certificate_expiry_timestamp_seconds
< {settings.certificate_days} * 24 * 60 * 60 + time()
""",
            wait="1h",
            severity="warning",
            summary=f"The certificate of the exporter on {THIS} ends soon",
            description=(
                f"{THIS} serves a certificate that is valid until {{{{ $value | humanizeTimestamp }}}}. After that, "
                "Prometheus cannot scrape the exporter, and no new problem of the machine can be found. Renew the "
                "certificate."
            ),
        ),
        Alert(
            name="KvmExporterRefusing",
            expression="""
sum without (code, reason) (
  increase(kvm_exporter_http_requests_total{code="401"}[15m])
  or increase(kvm_exporter_http_connections_dropped_total{reason=~"handshake|client_certificate"}[15m])
) >= 2
""",
            wait="20m",
            severity="warning",
            summary=f"The exporter on {THIS} keeps refusing clients",
            description=(
                f"For 20 minutes, the exporter on {THIS} has refused logins or TLS handshakes again and again. A "
                "client has a wrong password or certificate, or passwords are being guessed. The exporter's log has "
                "the addresses."
            ),
        ),
        Alert(
            name="KvmExporterBaselineReloadFailing",
            expression='kvm_exporter_collector_success{collector="baseline"} == 0',
            wait="5m",
            severity="warning",
            summary=f"The exporter on {THIS} cannot load its baseline",
            description=(
                f"{THIS} keeps the previous baseline; if it started with the invalid file, it has none. Correct the "
                "file; no restart is needed."
            ),
        ),
    )
