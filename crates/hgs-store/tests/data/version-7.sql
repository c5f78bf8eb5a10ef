PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE store (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    schema_version INTEGER NOT NULL,
    master_key BLOB NOT NULL,
    generation INTEGER NOT NULL,
    audit_sequence INTEGER NOT NULL,
    root BLOB NOT NULL
) STRICT;
INSERT INTO store VALUES(1,7,X'6cd168cb3e9e339d7155c7f8d7525b99da799708147029d5426f27d593652f32',11,14,X'12edc48d791edc929c53480b98cf0c479d22eefd69344a5dc90be7aff236e84a');
CREATE TABLE record (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    generation INTEGER NOT NULL,
    value TEXT NOT NULL,
    tag BLOB NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
INSERT INTO record VALUES('attestation-signer','4f665e3ee747e5789d9e7b015030d4862e49684bf3e148fbf3b6aee2372e4608',3,'{"certificate":"MIIDGTCCAgGgAwIBAgIQRwcHBwcHBwcHBwcHBwcHBzANBgkqhkiG9w0BAQsFADAlMSMwIQYDVQQDDBpPcGVuSEdTIEF0dGVzdGF0aW9uIFNpZ25lcjAeFw0yNzAxMTUwODAwMDBaFw0zMDAzMTcxNzQ2NDBaMCUxIzAhBgNVBAMMGk9wZW5IR1MgQXR0ZXN0YXRpb24gU2lnbmVyMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAxkrhhhT2UZi7Dk7ChXSgVId4INsUiDy/JXllyYYsThQURZ6u0H2FKDYlbN7Q/WLG6YlO4IKI2qLGgMG1yo/qH+nx0Ic+GoYwpjwZSLRB4D7Amo8MywIw+Gf8vfTOIxa/Lap7OgzII6GKZyJnQVd7/Ffz4WEcQbxb293RndzlOiA3eXUqaxkyTuMla0948X2+F7MJewCvyzaAthutjUNrqfewNK9inVZ4/rqs1z6O1K20R9rj2Bb5vFXLb8RCRIOvROKhZ0JoPCIkkI0hZ7fiGJUdFueQpdGvAzo/BOFRMEs7rRvwB2MrrrMsyD7Bqrm83hUYbTFxxrt1+Oy5giMgVwIDAQABo0UwQzASBgNVHRMBAf8ECDAGAQH/AgEAMA4GA1UdDwEB/wQEAwIChDAdBgNVHQ4EFgQUuyprIOsRSieNKO2aAiHIRGnIHqAwDQYJKoZIhvcNAQELBQADggEBAGfWWfh56MR8x4CR8kOb2q/gQ1OP/tEqOUSaHZ+CoX+M0mpCHlcmjTISD2E2RoTwsP/z+VvsM1zf94obrY1ocsMLJDNItPzJJcekq8IioqS9zK1oclG1C09Kk6GTIoqGbk20PiuZFvSySrmRc6BGMgfqiG5zvyRp4Ab1MBq3C5FiJnHwLXlhOE30jK+T4KmnalaZ3V0Y2EKw2PDF8+4aAxd5ZsnQHVB0zPLzpJ9KQ5IRjs7DSA7DhSA342D7KaXm13n3NotDcuY5Zly5haC4OfhCe6cqRYAa8LszLPfL0L6ESK6aQrthx2md2YQp8C6OHWiuSd5GFBnaHhUaDa0xT5c=","key":"sealed","stage":"active","deny_before":null,"maximum_validity_seconds":null,"label":null,"deny_list":[],"added":"2027-01-15T08:00:00Z"}',X'c837e52682f63ead5852430ee120db2133f612db918d83299f9579d5259cb213');
INSERT INTO record VALUES('certificate','d13e51b88f065fdcda9d43d2b761e7645df1d3e0b0478a70ec65b0ec95cf4e07',2,'{"kind":"encryption","certificate":"MIIDIzCCAgugAwIBAgIQRwcHBwcHBwcHBwcHBwcHBzANBgkqhkiG9w0BAQsFADAtMSswKQYDVQQDDCJPcGVuSEdTIEd1YXJkaWFuIEVuY3J5cHRpb24gKHRlc3QpMB4XDTI3MDExNTA4MDAwMFoXDTMwMDMxNzE3NDY0MFowLTErMCkGA1UEAwwiT3BlbkhHUyBHdWFyZGlhbiBFbmNyeXB0aW9uICh0ZXN0KTCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEBAMZK4YYU9lGYuw5OwoV0oFSHeCDbFIg8vyV5ZcmGLE4UFEWertB9hSg2JWze0P1ixumJTuCCiNqixoDBtcqP6h/p8dCHPhqGMKY8GUi0QeA+wJqPDMsCMPhn/L30ziMWvy2qezoMyCOhimciZ0FXe/xX8+FhHEG8W9vd0Z3c5TogN3l1KmsZMk7jJWtPePF9vhezCXsAr8s2gLYbrY1Da6n3sDSvYp1WeP66rNc+jtSttEfa49gW+bxVy2/EQkSDr0TioWdCaDwiJJCNIWe34hiVHRbnkKXRrwM6PwThUTBLO60b8AdjK66zLMg+waq5vN4VGG0xcca7dfjsuYIjIFcCAwEAAaM/MD0wDAYDVR0TAQH/BAIwADAOBgNVHQ8BAf8EBAMCBDAwHQYDVR0OBBYEFLsqayDrEUonjSjtmgIhyERpyB6gMA0GCSqGSIb3DQEBCwUAA4IBAQAPR5BCVJkLp1RWUBlGUdBtFge2smVtnFctqosgSk7E/RqFcHRjX/YhPdPxRnD7CaXtuwyThVMAqPWl9qGpTKozq0Ht6y9ZOUGsXz6Z4t0A+L+zPbvOsha8GixUKG9WRGvMfB2qpyUOHQSaict5bXz0zXsLZDD1D35nsgt/64+GsT1C887eu5FPFQVkQ/EWXzyIvmhr48SBuU+OtLD1zqqn1kOIcf6Z3/arHvho/i7PztC/kcMztPPpN9wl8pPEje3tnt+nZ5ILWrU/tCKN6hjne439i5fkydYsQEsOGmfE8BOw3hYmfJ2wQMgywTy4W9q4M3YgCxX0ZBjBpyLrgC3+","key":"sealed","lineage":"fabric","enabled":true,"head":true,"compromised":null,"label":"first","added":"2027-01-15T08:00:00Z"}',X'5875157a0b7c32b0f27dd3d7d18083e0ebdf1a8db968b7cccf371d26ef6400d5');
INSERT INTO record VALUES('denied-host','155be37998596f2974d9d1de0b87c7a0445632ad64dbb34e313d9ce150323599',11,'{"policy":"155be37998596f2974d9d1de0b87c7a0445632ad64dbb34e313d9ce150323599","denied":{"time":"2027-01-15T08:00:07Z","reason":"lost","by":"uid 0"}}',X'657ef238451ea8000a4a565a94b839bc8a3d477a63d5b54573b3cc8f6fd23d50');
INSERT INTO record VALUES('host','a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1',9,'{"id":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","name":"node-a","host_key":"MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAxkrhhhT2UZi7Dk7ChXSgVId4INsUiDy/JXllyYYsThQURZ6u0H2FKDYlbN7Q/WLG6YlO4IKI2qLGgMG1yo/qH+nx0Ic+GoYwpjwZSLRB4D7Amo8MywIw+Gf8vfTOIxa/Lap7OgzII6GKZyJnQVd7/Ffz4WEcQbxb293RndzlOiA3eXUqaxkyTuMla0948X2+F7MJewCvyzaAthutjUNrqfewNK9inVZ4/rqs1z6O1K20R9rj2Bb5vFXLb8RCRIOvROKhZ0JoPCIkkI0hZ7fiGJUdFueQpdGvAzo/BOFRMEs7rRvwB2MrrrMsyD7Bqrm83hUYbTFxxrt1+Oy5giMgVwIDAQAB","added":"2027-01-15T08:00:00Z","revoked":{"time":"2027-01-15T08:00:05Z","reason":"stolen","by":"uid 0"}}',X'29bb2ca83b05fba02bb0203af38a72facb9099e5564e5273f9654c2700bb3c27');
INSERT INTO record VALUES('host','c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3',8,'{"id":"c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3","name":"node-c","host_key":"MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA1Zi4YgJ6M1OkULYrDWXKfmw22jn7+k3+wCGyXbpngg/FfyyIIQW/bIZT0P9DzbTAytAujPXfFNscIVtD8z9L8LxViJpJysIjpvnOCYLo+IKMP9wwYQa8jynEb8swk7zlGeFy5YEA550hkGOdFLtYDDYEDrDw4U+uRb/TMVpmuS0fNwBEHKRaDnDO+sBg74bpQKAEL1HVklNuXeNORWlGhJmbe7Z5eSaoIdgN9VcOfhBodCG29znaF/KIkjnlG5ea01hSK/+rT0n+7HOCjam0ACgJ4hM9Gnu9IxSBslMn7Q1PIbteMYvCh5pE8cJFXWajzqhQ3WcngIoUfcjybBdLIwIDAQAB","added":"2027-01-15T08:00:05Z","revoked":null}',X'ca86ed0d18d221a972477af2a8298270c5ee1a289ef19a476a9b5b42c4004dc8');
INSERT INTO record VALUES('host-attestation','a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1',7,'{"host":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","last_attested":"2027-01-15T08:00:02Z","returns_nonces":true}',X'49a9beee2985275191d02966e79d3bdbea48b2964d7fd78576634dc0ed796c5f');
INSERT INTO record VALUES('host-identity','a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1/cd04a4754498e06db5a13c5f371f1f04ff6d2470f24aa9bd886540e5dce77f70',7,'{"host":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","kind":"encryption","public_key":"cd04a4754498e06db5a13c5f371f1f04ff6d2470f24aa9bd886540e5dce77f70","first_seen":"2027-01-15T08:00:02Z","superseded":null}',X'ac3680fda52a55700c22e9081e3eaa8f92830c201675db7db4d6ad1d7c70419f');
INSERT INTO record VALUES('host-identity','a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1/cd2662154e6d76b2b2b92e70c0cac3ccf534f9b74eb5b89819ec509083d00a50',7,'{"host":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","kind":"encryption","public_key":"cd2662154e6d76b2b2b92e70c0cac3ccf534f9b74eb5b89819ec509083d00a50","first_seen":"2027-01-15T08:00:01Z","superseded":"2027-01-15T08:00:02Z"}',X'c049621e26a5e2cf487368511318904075c17702152417815a1ae56c8a153268');
INSERT INTO record VALUES('private-key','ffdb018eddfeaf4fbccee0606075d936977b8f3019433e33e8cbd841292c178d',2,'{"public_key":"ffdb018eddfeaf4fbccee0606075d936977b8f3019433e33e8cbd841292c178d","sealed":"dkYOYGNvXOPdlCYKmRqj5LnObaoHXMOt1pGu7MoD0oHij8xeEzzJ7B6OnFrXaxZw2pk8VeQwDCkPh9JiqIkqyrlr4tD6vYxaP7p3DzxGbhO18KVUiLomHSSPV2epwraqUbG3rLw2I1SMKM0+F4mpQa9oI85g7aHim4JU4bGx9XZdo7rw47QufrcDlT1P7DMYc2gAsN8PFrvjGHos8f913x34xCwHGKLaQ9y3Ufvmnctxo3H0p8Uk48OncOS7qGMbZcpqQstwTe2PgkK7qfTG1Iv/7q/88YZSuPL60+5AxaqBJ94mUiAA8IhMeUJg/Ebzn9UTVG6BU1SjSwQd52z8uSWH4QKCnsMUunRX5Gi0Kq62dNc3so02TzCUgjJhiWe42/p+Yauogdfa9XCim9gE7qpW6yf/N1s/yD1AveoDuAC5tRAk3PPbwwCtQ7FVwzZvmXgN4aHyywTNfePYGHwVMccNxRbbVLTbhTCNJMfup4vcIpU9e4AJcK1kyL4uFo19Un+hIX/RFbKJtbU8HLZYWaqmOOt6eznM/4o3NKNJUzywJscTAnRJO4Q1Qz8h5DkQwx9G3GchNECp4QU1mZujkCMn2AWXtxu8AnOvslHV1/i2GgHxnXPe5GLgWUNEuyGTyv/RkqAChz57YJwWGcYofjsten3ehhdgfZUE0WpBx3BRtBWHRJe6RMKL7RUNIZvXrzalbSwpMDKfwyQM/AXINGz9g3/AJ08PgcdlF2L6O2o+M0AqsE1pBWvWlYWnvEQ0mn0rwbCjUtYK/FGwdog2KK59kxMDC2SI7l0y7ZYKkJtrOAW5PA8RhFXXm9w+ud1rL5ScIhcn42xZLkfTkeDOeyA9tzNYJdrSQR7weaUuK5T6tfJD1+azLUJueoaXbtZ0pHQs1eQGlcek2x+9M0sUZk6AjOkdSwzdSHIeR3dK5ciKvpmAD0Psf/08whZzqS+5xJkxyyHwV8feEVnsZoxaWHv331uDxYJvdULsiLM24Z3t1CMs86E14o1F6iT1yPGLVx7/IGXdYfY7/Q77pI6MlBLe9eLokPycWKLeK5oAnU/DgLMtGoWNRIGaGTX2n5dE/dGBOXLONrGjgFlr3/Kr8Q1lZ//MDWpReogLxNsywtpK1zdSANYcezv4g9jlVO/cUk4P7kXF8V2OQyskGz25Bsq6m/N2XwqqiFMCaPcj+HQSuzEPUSI/G/ZmETsGG04h80f6dKGBg8W7HWUtpDK9C6O9oMXs3Dc6pzkv8nJDKMPYO680echnmlAPllY384NB8naYVLSoo5iHJ0f/WwTMvKMrcXVce+/K8mKWhoA4cAB3vxOALWDH8ioWOgW6pfDpES1/jfNvmVfJ8TVIFziYM7LGjh/FwdnvW907faxi3E1SnHYXV/1ZBMqCUG7M1NlTlnPasjjvjbW2I7TYVMbomXBamnTPLKM87/p//nGDxhFcx3FMMjHh1yoJGrPNjniRtDecYvO4opJDs+now9SMZprzuaooiLZdZQ7z4BBAcbm1KiWXIMAjLLiGcFx01468Y7I1bGVN+d238FG1M7vANab9NnFhQlRHHVcgSb3+SA3RwGWPzIr0J27TMTnT+pmzwbwkC2Flw+QjbHaBjX6UnWl+wbkrBS39cjH4vn2UJMpmu97hGHxub9myoHG5"}',X'7b56096f69d57e7c74cda75e542ca313acfd6adcef0d124403be95aff1a4346b');
INSERT INTO record VALUES('removed-host','d53d3dff0d4bc2d194dbfd286d7cdf93b6482f8e93af94500c2fe28b792a4464',10,'{"host_key":"d53d3dff0d4bc2d194dbfd286d7cdf93b6482f8e93af94500c2fe28b792a4464","id":"b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2","name":"node-b","removed":"2027-01-15T08:00:06Z","by":"uid 0","revoked":null,"readmitted":null}',X'5e1e29bc05f52c30db533c4ad852190c3535a1753330c649dd518aaf5b750646');
INSERT INTO record VALUES('settings','service',11,'{"name":"hgs","attestation_url":null,"key_protection_url":null,"allow_key_material_caching":false,"health_certificate_seconds":28800,"refuse_superseded_protectors":false}',X'8a8491a29d8be9b0b0453362759900189ed72c3f6da0e791a47b292ef6ecdf1b');
CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY,
    record TEXT NOT NULL,
    tag BLOB NOT NULL
) STRICT;
INSERT INTO audit VALUES(1,'{"node":"node-1","generation":1,"time":"2027-01-15T08:00:00Z","actor":"uid 0","action":"set-settings","outcome":"done","after":{"name":"hgs","attestation_url":null,"key_protection_url":null,"allow_key_material_caching":false,"health_certificate_seconds":28800,"refuse_superseded_protectors":false},"changes":[{"kind":"settings","name":"service"}]}',X'0ae1e3fa1dda2f9bf10d35b2552d627bf1c563f027a6b71018a467c2b2756c33');
INSERT INTO audit VALUES(2,'{"node":"node-1","generation":2,"time":"2027-01-15T08:00:00Z","actor":"uid 0","action":"add-certificate","outcome":"done","lineage":"fabric","after":{"kind":"encryption","certificate":"MIIDIzCCAgugAwIBAgIQRwcHBwcHBwcHBwcHBwcHBzANBgkqhkiG9w0BAQsFADAtMSswKQYDVQQDDCJPcGVuSEdTIEd1YXJkaWFuIEVuY3J5cHRpb24gKHRlc3QpMB4XDTI3MDExNTA4MDAwMFoXDTMwMDMxNzE3NDY0MFowLTErMCkGA1UEAwwiT3BlbkhHUyBHdWFyZGlhbiBFbmNyeXB0aW9uICh0ZXN0KTCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEBAMZK4YYU9lGYuw5OwoV0oFSHeCDbFIg8vyV5ZcmGLE4UFEWertB9hSg2JWze0P1ixumJTuCCiNqixoDBtcqP6h/p8dCHPhqGMKY8GUi0QeA+wJqPDMsCMPhn/L30ziMWvy2qezoMyCOhimciZ0FXe/xX8+FhHEG8W9vd0Z3c5TogN3l1KmsZMk7jJWtPePF9vhezCXsAr8s2gLYbrY1Da6n3sDSvYp1WeP66rNc+jtSttEfa49gW+bxVy2/EQkSDr0TioWdCaDwiJJCNIWe34hiVHRbnkKXRrwM6PwThUTBLO60b8AdjK66zLMg+waq5vN4VGG0xcca7dfjsuYIjIFcCAwEAAaM/MD0wDAYDVR0TAQH/BAIwADAOBgNVHQ8BAf8EBAMCBDAwHQYDVR0OBBYEFLsqayDrEUonjSjtmgIhyERpyB6gMA0GCSqGSIb3DQEBCwUAA4IBAQAPR5BCVJkLp1RWUBlGUdBtFge2smVtnFctqosgSk7E/RqFcHRjX/YhPdPxRnD7CaXtuwyThVMAqPWl9qGpTKozq0Ht6y9ZOUGsXz6Z4t0A+L+zPbvOsha8GixUKG9WRGvMfB2qpyUOHQSaict5bXz0zXsLZDD1D35nsgt/64+GsT1C887eu5FPFQVkQ/EWXzyIvmhr48SBuU+OtLD1zqqn1kOIcf6Z3/arHvho/i7PztC/kcMztPPpN9wl8pPEje3tnt+nZ5ILWrU/tCKN6hjne439i5fkydYsQEsOGmfE8BOw3hYmfJ2wQMgywTy4W9q4M3YgCxX0ZBjBpyLrgC3+","key":"sealed","lineage":"fabric","enabled":true,"head":true,"compromised":null,"label":"first","added":"2027-01-15T08:00:00Z"},"changes":[{"kind":"private-key","name":"ffdb018eddfeaf4fbccee0606075d936977b8f3019433e33e8cbd841292c178d"},{"kind":"certificate","name":"d13e51b88f065fdcda9d43d2b761e7645df1d3e0b0478a70ec65b0ec95cf4e07"},{"kind":"settings","name":"service"}]}',X'2692c8f2f6f71040be8bbe501965d16c4a038e4be384cbfc74b25c0bd17fb1a5');
INSERT INTO audit VALUES(3,'{"node":"node-1","generation":3,"time":"2027-01-15T08:00:00Z","actor":"uid 0","action":"add-attestation-signer","outcome":"done","after":{"certificate":"MIIDGTCCAgGgAwIBAgIQRwcHBwcHBwcHBwcHBwcHBzANBgkqhkiG9w0BAQsFADAlMSMwIQYDVQQDDBpPcGVuSEdTIEF0dGVzdGF0aW9uIFNpZ25lcjAeFw0yNzAxMTUwODAwMDBaFw0zMDAzMTcxNzQ2NDBaMCUxIzAhBgNVBAMMGk9wZW5IR1MgQXR0ZXN0YXRpb24gU2lnbmVyMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAxkrhhhT2UZi7Dk7ChXSgVId4INsUiDy/JXllyYYsThQURZ6u0H2FKDYlbN7Q/WLG6YlO4IKI2qLGgMG1yo/qH+nx0Ic+GoYwpjwZSLRB4D7Amo8MywIw+Gf8vfTOIxa/Lap7OgzII6GKZyJnQVd7/Ffz4WEcQbxb293RndzlOiA3eXUqaxkyTuMla0948X2+F7MJewCvyzaAthutjUNrqfewNK9inVZ4/rqs1z6O1K20R9rj2Bb5vFXLb8RCRIOvROKhZ0JoPCIkkI0hZ7fiGJUdFueQpdGvAzo/BOFRMEs7rRvwB2MrrrMsyD7Bqrm83hUYbTFxxrt1+Oy5giMgVwIDAQABo0UwQzASBgNVHRMBAf8ECDAGAQH/AgEAMA4GA1UdDwEB/wQEAwIChDAdBgNVHQ4EFgQUuyprIOsRSieNKO2aAiHIRGnIHqAwDQYJKoZIhvcNAQELBQADggEBAGfWWfh56MR8x4CR8kOb2q/gQ1OP/tEqOUSaHZ+CoX+M0mpCHlcmjTISD2E2RoTwsP/z+VvsM1zf94obrY1ocsMLJDNItPzJJcekq8IioqS9zK1oclG1C09Kk6GTIoqGbk20PiuZFvSySrmRc6BGMgfqiG5zvyRp4Ab1MBq3C5FiJnHwLXlhOE30jK+T4KmnalaZ3V0Y2EKw2PDF8+4aAxd5ZsnQHVB0zPLzpJ9KQ5IRjs7DSA7DhSA342D7KaXm13n3NotDcuY5Zly5haC4OfhCe6cqRYAa8LszLPfL0L6ESK6aQrthx2md2YQp8C6OHWiuSd5GFBnaHhUaDa0xT5c=","key":"sealed","stage":"active","deny_before":null,"maximum_validity_seconds":null,"label":null,"deny_list":[],"added":"2027-01-15T08:00:00Z"},"changes":[{"kind":"attestation-signer","name":"4f665e3ee747e5789d9e7b015030d4862e49684bf3e148fbf3b6aee2372e4608"},{"kind":"settings","name":"service"}]}',X'55e67a8a3f0a09ed20d06d5d7c59480a8f4d260329d4c1baf174a1471a8b3878');
INSERT INTO audit VALUES(4,'{"node":"node-1","generation":4,"time":"2027-01-15T08:00:00Z","actor":"uid 0","action":"add-host","outcome":"done","host":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","host_name":"node-a","after":{"id":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","name":"node-a","host_key":"MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAxkrhhhT2UZi7Dk7ChXSgVId4INsUiDy/JXllyYYsThQURZ6u0H2FKDYlbN7Q/WLG6YlO4IKI2qLGgMG1yo/qH+nx0Ic+GoYwpjwZSLRB4D7Amo8MywIw+Gf8vfTOIxa/Lap7OgzII6GKZyJnQVd7/Ffz4WEcQbxb293RndzlOiA3eXUqaxkyTuMla0948X2+F7MJewCvyzaAthutjUNrqfewNK9inVZ4/rqs1z6O1K20R9rj2Bb5vFXLb8RCRIOvROKhZ0JoPCIkkI0hZ7fiGJUdFueQpdGvAzo/BOFRMEs7rRvwB2MrrrMsyD7Bqrm83hUYbTFxxrt1+Oy5giMgVwIDAQAB","added":"2027-01-15T08:00:00Z","revoked":null,"last_attested":null},"changes":[{"kind":"host","name":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"},{"kind":"settings","name":"service"}]}',X'fe63d736656f6db0f29367a9fc5024813485d7e61f3b43badc6ab09f904d4be7');
INSERT INTO audit VALUES(5,'{"node":"node-1","generation":5,"time":"2027-01-15T08:00:00Z","actor":"uid 0","action":"add-host","outcome":"done","host":"b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2","host_name":"node-b","after":{"id":"b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2","name":"node-b","host_key":"MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA12MAaPTcnRuKsadQmpFLTPKTvIRtCZKhsveBgLb+lFFr1ZYrJIQ2b3qwoNo0dp352Bhklc3OBGhJRyFwyK78Nj4cYyAED3wIfacuyr5hkALTrZGZTPWl7M+Xf/NjzjNibRV2I7gqcBp4Hgqi78SEao47RoiL0Dw8ubuWvmGiE1HlHNsv75EG5Nn6eXPSDk1zw7+8cN4tN8l6tisITKP/5Tw2MpquEzaOakLtww34mC6N06uoD2cYPzH0jKBui6LBHM0/AG8mzceJNaiMal9Y2aZoxc8k2RtV9rxrza+3WgW9O0KOSeJ32CGtqUCez47g1m4FwM0VsCqGBCvSkOCKBwIDAQAB","added":"2027-01-15T08:00:00Z","revoked":null,"last_attested":null},"changes":[{"kind":"host","name":"b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2"},{"kind":"settings","name":"service"}]}',X'cdb10dc85ad88552d929fcd85df5b4faa1ea65526b1dc0e65c80a1ac613c96b0');
INSERT INTO audit VALUES(6,'{"node":"node-1","generation":6,"time":"2027-01-15T08:00:01Z","actor":"uid 0","action":"attest","outcome":"done","host":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","host_name":"node-a","serial":"09","policy":"af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc","changes":[{"kind":"host-identity","name":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1/cd2662154e6d76b2b2b92e70c0cac3ccf534f9b74eb5b89819ec509083d00a50"},{"kind":"host-attestation","name":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"}]}',X'0ca270e32a225e0f4676c4336f81116bf4ec22dd1b5e4b5a850b979f58bcb3d8');
INSERT INTO audit VALUES(7,'{"node":"node-1","generation":7,"time":"2027-01-15T08:00:02Z","actor":"uid 0","action":"attest","outcome":"done","host":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","host_name":"node-a","serial":"09","policy":"af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc","changes":[{"kind":"host-identity","name":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1/cd2662154e6d76b2b2b92e70c0cac3ccf534f9b74eb5b89819ec509083d00a50"},{"kind":"host-identity","name":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1/cd04a4754498e06db5a13c5f371f1f04ff6d2470f24aa9bd886540e5dce77f70"},{"kind":"host-attestation","name":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"}]}',X'd113a9e7da9e7e2a51b1015d905551d7a1c828515551e750cf50c83a51be1989');
INSERT INTO audit VALUES(8,'{"node":"node-1","generation":7,"time":"2027-01-15T08:00:03Z","actor":"host a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","action":"release","outcome":"done","host":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","host_name":"node-a","serial":"010203","policy":"af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc","protector":"8d85f8467240628a94819b26bee26e3a9b2804334c63482deacec8d64ab4e1e7","egress_protector":"0b5000b73a53f0916c93c68f4b9b6ba8af5a10978634ae4f2237e1f3fbe324fa","standing":"new","owner":"d13e51b88f065fdcda9d43d2b761e7645df1d3e0b0478a70ec65b0ec95cf4e07","guardian":"d13e51b88f065fdcda9d43d2b761e7645df1d3e0b0478a70ec65b0ec95cf4e07","lineage":"fabric"}',X'1fa0de69e7dc6c26da1b7ddcb623052a64794d27d9de65255e2a01ed3b46ae45');
INSERT INTO audit VALUES(9,'{"node":"node-1","generation":7,"time":"2027-01-15T08:00:04Z","actor":"host a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","action":"release","outcome":"done","host":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","host_name":"node-a","serial":"010203","policy":"af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc","protector":"0b5000b73a53f0916c93c68f4b9b6ba8af5a10978634ae4f2237e1f3fbe324fa","egress_protector":"d27a8d9a8d38c7a37c922450a7a1961f138abfa25f5da3df2b972820715fa5ae","standing":"head","owner":"d13e51b88f065fdcda9d43d2b761e7645df1d3e0b0478a70ec65b0ec95cf4e07","guardian":"d13e51b88f065fdcda9d43d2b761e7645df1d3e0b0478a70ec65b0ec95cf4e07","lineage":"fabric"}',X'0767794640fe0dab67d8244b5b3d6fba91c0993df426a2d18c1f5c4dcb360d11');
INSERT INTO audit VALUES(10,'{"node":"node-1","generation":8,"time":"2027-01-15T08:00:05Z","actor":"uid 0","action":"add-host","outcome":"done","host":"c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3","host_name":"node-c","after":{"id":"c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3","name":"node-c","host_key":"MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA1Zi4YgJ6M1OkULYrDWXKfmw22jn7+k3+wCGyXbpngg/FfyyIIQW/bIZT0P9DzbTAytAujPXfFNscIVtD8z9L8LxViJpJysIjpvnOCYLo+IKMP9wwYQa8jynEb8swk7zlGeFy5YEA550hkGOdFLtYDDYEDrDw4U+uRb/TMVpmuS0fNwBEHKRaDnDO+sBg74bpQKAEL1HVklNuXeNORWlGhJmbe7Z5eSaoIdgN9VcOfhBodCG29znaF/KIkjnlG5ea01hSK/+rT0n+7HOCjam0ACgJ4hM9Gnu9IxSBslMn7Q1PIbteMYvCh5pE8cJFXWajzqhQ3WcngIoUfcjybBdLIwIDAQAB","added":"2027-01-15T08:00:05Z","revoked":null,"last_attested":null},"changes":[{"kind":"host","name":"c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3"},{"kind":"settings","name":"service"}]}',X'7c0d8bc9af7f65b34b24e96a1fbb32958207234c5d3dce4912281c25d9296f3a');
INSERT INTO audit VALUES(11,'{"node":"node-1","generation":9,"time":"2027-01-15T08:00:05Z","actor":"uid 0","action":"revoke-host","outcome":"done","host":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","host_name":"node-a","before":{"id":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","name":"node-a","host_key":"MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAxkrhhhT2UZi7Dk7ChXSgVId4INsUiDy/JXllyYYsThQURZ6u0H2FKDYlbN7Q/WLG6YlO4IKI2qLGgMG1yo/qH+nx0Ic+GoYwpjwZSLRB4D7Amo8MywIw+Gf8vfTOIxa/Lap7OgzII6GKZyJnQVd7/Ffz4WEcQbxb293RndzlOiA3eXUqaxkyTuMla0948X2+F7MJewCvyzaAthutjUNrqfewNK9inVZ4/rqs1z6O1K20R9rj2Bb5vFXLb8RCRIOvROKhZ0JoPCIkkI0hZ7fiGJUdFueQpdGvAzo/BOFRMEs7rRvwB2MrrrMsyD7Bqrm83hUYbTFxxrt1+Oy5giMgVwIDAQAB","added":"2027-01-15T08:00:00Z","revoked":null,"last_attested":"2027-01-15T08:00:02Z","returns_nonces":true},"after":{"id":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","name":"node-a","host_key":"MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAxkrhhhT2UZi7Dk7ChXSgVId4INsUiDy/JXllyYYsThQURZ6u0H2FKDYlbN7Q/WLG6YlO4IKI2qLGgMG1yo/qH+nx0Ic+GoYwpjwZSLRB4D7Amo8MywIw+Gf8vfTOIxa/Lap7OgzII6GKZyJnQVd7/Ffz4WEcQbxb293RndzlOiA3eXUqaxkyTuMla0948X2+F7MJewCvyzaAthutjUNrqfewNK9inVZ4/rqs1z6O1K20R9rj2Bb5vFXLb8RCRIOvROKhZ0JoPCIkkI0hZ7fiGJUdFueQpdGvAzo/BOFRMEs7rRvwB2MrrrMsyD7Bqrm83hUYbTFxxrt1+Oy5giMgVwIDAQAB","added":"2027-01-15T08:00:00Z","revoked":{"time":"2027-01-15T08:00:05Z","reason":"stolen","by":"uid 0"},"last_attested":"2027-01-15T08:00:02Z","returns_nonces":true},"changes":[{"kind":"host","name":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"},{"kind":"settings","name":"service"}]}',X'31e0af718fe5dc33c10f11b0c67ed6ea162106a424ee4550ef720eb6c5a4adda');
INSERT INTO audit VALUES(12,'{"node":"node-1","generation":10,"time":"2027-01-15T08:00:06Z","actor":"uid 0","action":"remove-host","outcome":"done","host":"b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2","host_name":"node-b","before":{"id":"b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2","name":"node-b","host_key":"MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA12MAaPTcnRuKsadQmpFLTPKTvIRtCZKhsveBgLb+lFFr1ZYrJIQ2b3qwoNo0dp352Bhklc3OBGhJRyFwyK78Nj4cYyAED3wIfacuyr5hkALTrZGZTPWl7M+Xf/NjzjNibRV2I7gqcBp4Hgqi78SEao47RoiL0Dw8ubuWvmGiE1HlHNsv75EG5Nn6eXPSDk1zw7+8cN4tN8l6tisITKP/5Tw2MpquEzaOakLtww34mC6N06uoD2cYPzH0jKBui6LBHM0/AG8mzceJNaiMal9Y2aZoxc8k2RtV9rxrza+3WgW9O0KOSeJ32CGtqUCez47g1m4FwM0VsCqGBCvSkOCKBwIDAQAB","added":"2027-01-15T08:00:00Z","revoked":null,"last_attested":null},"after":{"host_key":"d53d3dff0d4bc2d194dbfd286d7cdf93b6482f8e93af94500c2fe28b792a4464","id":"b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2","name":"node-b","removed":"2027-01-15T08:00:06Z","by":"uid 0","revoked":null,"readmitted":null},"changes":[{"kind":"host","name":"b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2","removed":true},{"kind":"removed-host","name":"d53d3dff0d4bc2d194dbfd286d7cdf93b6482f8e93af94500c2fe28b792a4464"},{"kind":"settings","name":"service"}]}',X'03f3691517ad4f0cc9df80b12aa4fc2881061b4fb85c46757bb04a16d7c087f9');
INSERT INTO audit VALUES(13,'{"node":"node-1","generation":11,"time":"2027-01-15T08:00:07Z","actor":"uid 0","action":"deny-host","outcome":"done","after":{"policy":"155be37998596f2974d9d1de0b87c7a0445632ad64dbb34e313d9ce150323599","denied":{"time":"2027-01-15T08:00:07Z","reason":"lost","by":"uid 0"}},"changes":[{"kind":"denied-host","name":"155be37998596f2974d9d1de0b87c7a0445632ad64dbb34e313d9ce150323599"},{"kind":"settings","name":"service"}]}',X'fb3a362ff21afca5ab37f819b73e8be961beaa507ff5fcbe34042eb936fa116f');
INSERT INTO audit VALUES(14,'{"node":"node-1","generation":11,"time":"2027-01-15T08:00:08Z","actor":"uid 0","action":"allow-host","outcome":"refused","reason":"no host with the policy digest d08f9bd618c95e87b8a12a6f5489cf027aa6336fe3b726c53c9d388fad166b07 is denied"}',X'7f99a54c35ce9eab2e4a394096a8679872c04c9939473c9d37a3ecb6c846ba2b');
CREATE TABLE lineage (
    digest BLOB NOT NULL UNIQUE,
    parent BLOB,
    stage INTEGER NOT NULL,
    owner BLOB NOT NULL,
    opened_by BLOB,
    opened_by_signing BLOB,
    host TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    tag BLOB NOT NULL
) STRICT;
INSERT INTO lineage VALUES(X'8d85f8467240628a94819b26bee26e3a9b2804334c63482deacec8d64ab4e1e7',NULL,2,X'd13e51b88f065fdcda9d43d2b761e7645df1d3e0b0478a70ec65b0ec95cf4e07',X'd13e51b88f065fdcda9d43d2b761e7645df1d3e0b0478a70ec65b0ec95cf4e07',X'd13e51b88f065fdcda9d43d2b761e7645df1d3e0b0478a70ec65b0ec95cf4e07','a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1',1800000003,1800000004,X'32b2117915b6477f5c98de91159f3784698c3e2038c6cdee0d0e19accbc92e48');
INSERT INTO lineage VALUES(X'0b5000b73a53f0916c93c68f4b9b6ba8af5a10978634ae4f2237e1f3fbe324fa',X'8d85f8467240628a94819b26bee26e3a9b2804334c63482deacec8d64ab4e1e7',1,X'd13e51b88f065fdcda9d43d2b761e7645df1d3e0b0478a70ec65b0ec95cf4e07',X'd13e51b88f065fdcda9d43d2b761e7645df1d3e0b0478a70ec65b0ec95cf4e07',X'd13e51b88f065fdcda9d43d2b761e7645df1d3e0b0478a70ec65b0ec95cf4e07','a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1',1800000003,1800000004,X'f3e54d3144164fabaeb653b7c579ad7e3980c0c4365f665cacd0252f8a59d741');
INSERT INTO lineage VALUES(X'd27a8d9a8d38c7a37c922450a7a1961f138abfa25f5da3df2b972820715fa5ae',X'0b5000b73a53f0916c93c68f4b9b6ba8af5a10978634ae4f2237e1f3fbe324fa',0,X'd13e51b88f065fdcda9d43d2b761e7645df1d3e0b0478a70ec65b0ec95cf4e07',NULL,NULL,'a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1',1800000004,1800000004,X'60727df697407b714f42e228ea236bdc03599de63cf0bccffb3b94b2cdfc10b4');
CREATE TABLE audit_day (
    day INTEGER PRIMARY KEY,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL
) STRICT;
INSERT INTO audit_day VALUES(20833,1,14);
CREATE TABLE audit_boundary (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    last_left INTEGER NOT NULL,
    tag BLOB NOT NULL,
    archived INTEGER NOT NULL,
    digest BLOB NOT NULL,
    seal BLOB NOT NULL
) STRICT;
CREATE TABLE audit_filter (
    part INTEGER NOT NULL,
    term INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (part, term, sequence)
) STRICT, WITHOUT ROWID;
INSERT INTO audit_filter VALUES(0,-9220620424545028829,13);
INSERT INTO audit_filter VALUES(0,-9158604601724193244,8);
INSERT INTO audit_filter VALUES(0,-9114272174203095879,8);
INSERT INTO audit_filter VALUES(0,-9114272174203095879,9);
INSERT INTO audit_filter VALUES(0,-8813317297374094933,3);
INSERT INTO audit_filter VALUES(0,-8526601254244035606,1);
INSERT INTO audit_filter VALUES(0,-8526601254244035606,2);
INSERT INTO audit_filter VALUES(0,-8526601254244035606,3);
INSERT INTO audit_filter VALUES(0,-8526601254244035606,4);
INSERT INTO audit_filter VALUES(0,-8526601254244035606,5);
INSERT INTO audit_filter VALUES(0,-8526601254244035606,6);
INSERT INTO audit_filter VALUES(0,-8526601254244035606,7);
INSERT INTO audit_filter VALUES(0,-8526601254244035606,8);
INSERT INTO audit_filter VALUES(0,-8526601254244035606,9);
INSERT INTO audit_filter VALUES(0,-8526601254244035606,10);
INSERT INTO audit_filter VALUES(0,-8526601254244035606,11);
INSERT INTO audit_filter VALUES(0,-8526601254244035606,12);
INSERT INTO audit_filter VALUES(0,-8526601254244035606,13);
INSERT INTO audit_filter VALUES(0,-8433110856760198226,5);
INSERT INTO audit_filter VALUES(0,-8433110856760198226,12);
INSERT INTO audit_filter VALUES(0,-7794257357944743103,6);
INSERT INTO audit_filter VALUES(0,-7794257357944743103,7);
INSERT INTO audit_filter VALUES(0,-7213739598491331661,2);
INSERT INTO audit_filter VALUES(0,-5843390816345953255,4);
INSERT INTO audit_filter VALUES(0,-5843390816345953255,6);
INSERT INTO audit_filter VALUES(0,-5843390816345953255,7);
INSERT INTO audit_filter VALUES(0,-5843390816345953255,8);
INSERT INTO audit_filter VALUES(0,-5843390816345953255,9);
INSERT INTO audit_filter VALUES(0,-5843390816345953255,11);
INSERT INTO audit_filter VALUES(0,-5578842292391802130,8);
INSERT INTO audit_filter VALUES(0,-5578842292391802130,9);
INSERT INTO audit_filter VALUES(0,-4580038992134399493,9);
INSERT INTO audit_filter VALUES(0,-2590867330385281689,10);
INSERT INTO audit_filter VALUES(0,-1169094002752402660,5);
INSERT INTO audit_filter VALUES(0,-1169094002752402660,12);
INSERT INTO audit_filter VALUES(0,-678933358897412381,10);
INSERT INTO audit_filter VALUES(0,-461692262765067597,14);
INSERT INTO audit_filter VALUES(0,-407737455059640752,4);
INSERT INTO audit_filter VALUES(0,-407737455059640752,6);
INSERT INTO audit_filter VALUES(0,-407737455059640752,7);
INSERT INTO audit_filter VALUES(0,-407737455059640752,8);
INSERT INTO audit_filter VALUES(0,-407737455059640752,9);
INSERT INTO audit_filter VALUES(0,-407737455059640752,11);
INSERT INTO audit_filter VALUES(0,22431891347401940,12);
INSERT INTO audit_filter VALUES(0,1036223789016868296,4);
INSERT INTO audit_filter VALUES(0,1036223789016868296,5);
INSERT INTO audit_filter VALUES(0,1036223789016868296,10);
INSERT INTO audit_filter VALUES(0,2068625869228673203,1);
INSERT INTO audit_filter VALUES(0,4472485530676045815,14);
INSERT INTO audit_filter VALUES(0,7826098901865009076,11);
INSERT INTO audit_filter VALUES(0,8809481399892121106,2);
INSERT INTO audit_filter VALUES(0,8809481399892121106,8);
INSERT INTO audit_filter VALUES(0,8809481399892121106,9);
CREATE INDEX lineage_issued ON lineage (parent) WHERE stage = 0;
CREATE INDEX lineage_ancestors ON lineage (last_seen) WHERE stage = 2;
CREATE INDEX lineage_openers ON lineage (opened_by, opened_by_signing, last_seen) WHERE stage = 1;
COMMIT;
