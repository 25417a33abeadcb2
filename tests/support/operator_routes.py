"""Every route of the operators' API under /api/v1, and whom it lets in. A new route fails until listed here.

`who`: the roles that are let in, by first letter (viewer, operator, release-manager, security-officer,
administrator); `public` for everybody; `me` for anyone signed in, over what is their own.

`where`: what a role held in one group of devices opens. `device`: the devices of that group; others are not
there. `groups`: the route, with what it shows cut down to the group. `shared`: the route. `fleet`: nothing.

`gets`: what comes back to those who are let in: a body or a thing is missing, so that nothing changes.
"""

from dataclasses import dataclass

from fleetward.features.access.model.roles import Role

TABLE = """
method path                                                permission           who    where  gets
GET    /health                                             -                    public -      200
GET    /setup                                              -                    public -      200
POST   /setup/link                                         operator.recover     ....a  fleet  409
POST   /setup/begin                                        -                    public -      400
POST   /setup/finish                                       -                    public -      400
POST   /signin/invitation/begin                            -                    public -      400
POST   /signin/invitation/finish                           -                    public -      400
GET    /signin/options                                     -                    public -      200
POST   /signin/passkey/begin                               -                    public -      200
POST   /signin/passkey/finish                              -                    public -      400
POST   /signin/password                                    -                    public -      400
POST   /signin/recovery                                    -                    public -      400
POST   /oauth/device_authorization                         -                    public -      400
POST   /oauth/token                                        -                    public -      400
POST   /signout                                            me                   me     -      204
GET    /signin/oidc/start                                  -                    public -      404
GET    /signin/oidc/callback                               -                    public -      404
GET    /me                                                 me                   me     -      200
POST   /me/step-up/begin                                   me                   me     -      200
POST   /me/step-up/finish                                  me                   me     -      400
GET    /me/passkeys                                        me                   me     -      200
POST   /me/passkeys/begin                                  me                   me     -      200
POST   /me/passkeys/finish                                 me                   me     -      400
DELETE /me/passkeys/{passkey_id}                           me                   me     -      404
POST   /me/password                                        me                   me     -      400
POST   /me/totp/begin                                      me                   me     -      200
POST   /me/totp/finish                                     me                   me     -      400
POST   /me/recovery-codes                                  me                   me     -      201
GET    /me/sessions                                        me                   me     -      200
DELETE /me/sessions/{session_id}                           me                   me     -      404
GET    /device-codes/{user_code}                           me                   me     -      404
POST   /device-codes/{user_code}/approve                   me                   me     -      404
POST   /device-codes/{user_code}/deny                      me                   me     -      404
GET    /tokens                                             me                   me     -      200
POST   /tokens                                             token.create         vorsa  shared 400
DELETE /tokens/{token_id}                                  me                   me     -      404
GET    /operators                                          operator.read        ...sa  fleet  200
POST   /operators/invitations                              operator.invite      ....a  fleet  400
GET    /operators/{name}                                   operator.read        ...sa  fleet  404
POST   /operators/{name}/disable                           operator.disable     ...sa  fleet  400
POST   /operators/{name}/enable                            operator.invite      ....a  fleet  404
POST   /operators/{name}/recover                           operator.recover     ....a  fleet  404
GET    /operators/{name}/sessions                          session.read         ...sa  fleet  404
DELETE /operators/{name}/sessions                          session.revoke       ...sa  fleet  404
DELETE /operators/{name}/sessions/{session_id}             session.revoke       ...sa  fleet  404
GET    /roles                                              role.read            vorsa  shared 200
POST   /operators/{name}/grants                            grant.give           ....a  fleet  400
DELETE /operators/{name}/grants/{grant_id}                 grant.remove         ....a  fleet  404
POST   /reviews                                            review.start         ...sa  fleet  400
GET    /reviews                                            review.read          ...sa  fleet  200
GET    /reviews/{review_id}                                review.read          ...sa  fleet  404
POST   /reviews/{review_id}/items/{grant_id}               review.decide        ...sa  fleet  400
POST   /reviews/{review_id}/close                          review.close         ...sa  fleet  404
GET    /reviews/{review_id}/evidence                       review.read          ...sa  fleet  404
POST   /break-glass                                        break_glass.request  .orsa  shared 400
GET    /break-glass                                        break_glass.read     .orsa  shared 200
POST   /break-glass/{glass_id}/approve                     break_glass.approve  ...sa  fleet  404
POST   /break-glass/{glass_id}/end                         break_glass.end      .orsa  shared 404
POST   /break-glass/{glass_id}/review                      break_glass.review   ...sa  fleet  400
GET    /break-glass/{glass_id}/acts                        audit.read           ...sa  fleet  404
GET    /audit/entries                                      audit.read           ...sa  fleet  200
GET    /audit/checkpoints                                  audit.read           ...sa  fleet  200
GET    /audit/verify                                       audit.read           ...sa  fleet  200
GET    /audit/proof/inclusion                              audit.read           ...sa  fleet  400
GET    /audit/proof/consistency                            audit.read           ...sa  fleet  400
GET    /events                                             event.read           vorsa  groups 200
GET    /events/stream                                      event.read           vorsa  groups 200
POST   /models                                             model.add            ....a  fleet  400
GET    /models                                             model.read           vorsa  shared 200
GET    /devices                                            device.read          vorsa  groups 200
GET    /devices/counts                                     device.read          vorsa  groups 200
GET    /devices/{device_id}                                device.read          vorsa  device 200
GET    /devices/{device_id}/why                            device.read          vorsa  device 200
GET    /devices/{device_id}/firmware                       device.read          vorsa  device 200
POST   /devices/bulk                                       device.read          vorsa  groups 400
GET    /overview/today                                     device.read          vorsa  groups 200
POST   /events/{number}/acknowledge                        event.acknowledge    .o.sa  groups 400
GET    /filters                                            filter.manage        vorsa  shared 200
POST   /filters                                            filter.manage        vorsa  shared 400
DELETE /filters/{filter_id}                                filter.manage        vorsa  shared 404
GET    /deadletters                                        deadletter.read      vorsa  fleet  200
GET    /deadletters/{number}                               deadletter.read      vorsa  fleet  404
POST   /deadletters/{number}/replay                        deadletter.manage    ....a  fleet  404
DELETE /deadletters/{number}                               deadletter.manage    ....a  fleet  404
GET    /settings/checklist                                 settings.read        vorsa  fleet  200
POST   /devices/{device_id}/quarantine                     device.quarantine    .o.sa  device 400
POST   /devices/{device_id}/release                        device.release       .o.sa  device 400
POST   /devices/{device_id}/revoke                         device.revoke        ...sa  device 400
POST   /devices/{device_id}/retire                         device.retire        ...sa  device 400
GET    /pki/authorities                                    authority.read       vorsa  shared 200
GET    /devices/{device_id}/certificates                   certificate.read     vorsa  device 200
POST   /devices/{device_id}/certificates/{serial}/revoke   device.revoke        ...sa  device 400
GET    /pki/ca.pem                                         -                    public -      200
GET    /pki/crl                                            -                    public -      200
POST   /pki/ocsp                                           -                    public -      200
GET    /pki/ocsp/{encoded:path}                            -                    public -      200
GET    /devices/{device_id}/appraisals                     attestation.read     vorsa  device 200
GET    /models/{model_id}/references                       attestation.read     vorsa  shared 200
POST   /models/{model_id}/references                       attestation.manage   ...sa  fleet  400
POST   /models/{model_id}/references/{digest}/withdraw     attestation.manage   ...sa  fleet  404
GET    /attestation/ek-roots                               attestation.read     vorsa  shared 200
POST   /attestation/ek-roots                               attestation.manage   ...sa  fleet  400
POST   /attestation/ek-roots/{fingerprint}/withdraw        attestation.manage   ...sa  fleet  404
POST   /devices                                            device.add           .o..a  groups 400
POST   /devices/import                                     device.import        .o..a  groups 400
POST   /devices/{device_id}/claims                         device.claim         .o..a  device 400
POST   /factories                                          factory.trust        ...sa  fleet  400
GET    /factories                                          factory.read         vorsa  shared 200
GET    /devices/{device_id}/telemetry                      telemetry.read       vorsa  device 200
GET    /devices/{device_id}/shadow                         shadow.read          vorsa  device 200
PUT    /devices/{device_id}/shadow/desired                 shadow.write         .o..a  device 400
POST   /devices/{device_id}/commands                       command.run          .o..a  device 400
GET    /devices/{device_id}/commands                       command.read         vorsa  device 200
GET    /devices/{device_id}/commands/{number}              command.read         vorsa  device 404
GET    /devices/{device_id}/presence                       device.read          vorsa  device 200
GET    /devices/{device_id}/session                        device.read          vorsa  device 200
GET    /devices/{device_id}/watch                          telemetry.read       vorsa  device 200
POST   /releases                                           release.publish      ..r.a  fleet  400
GET    /releases                                           release.read         vorsa  shared 200
GET    /releases/{model}/{version}                         release.read         vorsa  shared 404
POST   /releases/{model}/{version}/approve                 release.approve      ..rsa  fleet  404
POST   /releases/{model}/{version}/reject                  release.approve      ..rsa  fleet  400
POST   /releases/{model}/{version}/withdraw                release.withdraw     ..r.a  fleet  400
GET    /releases/{model}/{version}/manifest                release.read         vorsa  shared 404
GET    /releases/{model}/{version}/image                   release.read         vorsa  shared 404
GET    /releases/{model}/{version}/sbom                    release.read         vorsa  shared 404
GET    /trust/updates                                      release.read         vorsa  shared 200
POST   /devices/{device_id}/views                          video.view           .o..a  device 201
DELETE /views/{view_id}                                    video.view           .o..a  groups 404
"""

LETTERS = dict(zip("vorsa", Role, strict=True))


@dataclass(frozen=True)
class Row:
    method: str
    path: str
    permission: str
    who: str
    where: str
    gets: int

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def roles(self) -> set[Role]:
        return {LETTERS[letter] for letter in self.who if letter in LETTERS}


ROWS = [
    Row(method, path, permission, who, where, int(gets))
    for method, path, permission, who, where, gets in (line.split() for line in TABLE.split("\n")[2:-1])
]
