"""Ways to tell somebody that an alert fired. Each tries once and says how that went; whoever asks decides when to try
again (`actors.alerting.retries`)."""
