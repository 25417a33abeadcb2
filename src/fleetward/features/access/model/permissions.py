"""Every permission a route or command names, and how far it reaches. What each role holds: `../policies/`."""

from fleetward.base.permissions import Permission, Reach

__all__ = ["CATALOGUE", "Permission", "Reach"]

_DEVICES = {
    "certificate.read": "see a device's certificates",
    "command.read": "see commands and their results",
    "command.run": "have a device do something",
    "device.add": "register a device",
    "device.claim": "make a claim, by which a device enrolls",
    "device.import": "register the devices of a shipment",
    "device.quarantine": "cut a device off until it is released",
    "device.read": "see devices and their state",
    "device.release": "let a quarantined device work again",
    "device.retire": "end a device's life",
    "device.revoke": "cut a device off for good",
    "device.revoke_bulk": "cut many devices off for good at once",
    "event.acknowledge": "take note of an alert for everybody",
    "event.read": "see what happened",
    "shadow.read": "see what is desired and reported",
    "shadow.write": "change what is desired",
    "telemetry.read": "see what devices send",
    "video.view": "watch live video",
}
_SHARED = {
    "attestation.read": "see what devices may measure, and verdicts on them",
    "authority.read": "see the certificate authorities",
    "break_glass.end": "end an emergency, or take a request back",
    "break_glass.read": "see when the glass was broken, why and by whom",
    "break_glass.request": "ask another to break the glass",
    "factory.read": "see trusted factories",
    "filter.manage": "keep filters of one's own",
    "model.read": "see models",
    "release.read": "see and download releases",
    "role.read": "see what each role may do",
    "token.create": "make a token of one's own",
}
_FLEET = {
    "attestation.manage": "say what devices may measure and whose chips are trusted",
    "audit.read": "read the audit log",
    "break_glass.approve": "let another break the glass",
    "break_glass.review": "review what another did with it",
    "factory.trust": "trust a factory's shipments",
    "grant.give": "give others a role",
    "grant.read": "see who holds which role",
    "grant.remove": "take a role away",
    "model.add": "add a model",
    "operator.disable": "disable or enable an operator",
    "operator.invite": "invite an operator",
    "operator.read": "see operators",
    "operator.recover": "let an operator register anew",
    "release.approve": "approve or reject another's release",
    "release.publish": "hand in a release",
    "release.withdraw": "offer a release no longer",
    "review.close": "close a review and apply its decisions",
    "review.decide": "decide over a grant in a review",
    "review.read": "see reviews and their evidence",
    "review.start": "start a review of all grants",
    "session.read": "see others' sessions",
    "session.revoke": "end others' sessions",
    "settings.read": "see how the platform is run, and its checklist",
}

CATALOGUE: dict[str, Permission] = {
    name: Permission(name, reach, about)
    for reach, named in ((Reach.DEVICES, _DEVICES), (Reach.SHARED, _SHARED), (Reach.FLEET, _FLEET))
    for name, about in sorted(named.items())
}
