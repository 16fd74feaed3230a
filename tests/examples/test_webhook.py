"""examples/webhook.py: paid by a webhook that comes twice, declined, never heard of; and killed while it waits."""

from __future__ import annotations

from pathlib import Path

from tests.examples.running import example, until

HERE = {
    "PROVIDER_URL": "http://localhost:8080/provider",
    "WEBHOOK_URL": "http://localhost:8080/payments/webhook",
    "NO_PROXY": "localhost",
    "PAYMENT_PATIENCE_S": "10",
}


def test_it_waits_for_the_webhook_over_a_kill(tmp_path: Path) -> None:
    with example("webhook", tmp_path, '"o1 is paid"', HERE) as running:
        sent = running.http.post("/payments/pay/send", json={"id": "o2", "cents": 5}, headers={"idempotency-key": "o2"})
        assert sent.status_code == 202
        until(lambda: running.results() > 0, "the provider's answer")
        running.kill()
        paid = running.http.get("/payments/pay/attach", headers={"idempotency-key": "o2"})
        assert paid.json() == "o2 is paid"

        declined = running.http.post("/payments/pay", json={"id": "o3", "cents": 100_001})
        assert (declined.status_code, declined.json()["message"]) == (402, "the payment of o3 was declined")
        refused = running.http.post("/payments/pay", json={"id": "o4", "cents": 0})
        assert (refused.status_code, "cents must be positive" in refused.json()["message"]) == (502, True)
        forged = running.http.post("/payments/webhook", content=b"{}", headers={"x-signature": "guessed"})
        assert forged.status_code == 401


def test_nobody_pays(tmp_path: Path) -> None:
    with example("webhook", tmp_path, '"o1 is paid"', HERE) as running:
        waited = running.http.post("/payments/pay", json={"id": "o5", "cents": 1})
        assert (waited.status_code, waited.json()["message"]) == (504, "o5 was not paid")
        assert waited.json()["metadata"]["intent"].startswith("pi_")
