# deploy_backend: the backend as a container app, and what a frontend is told of it.

mock_provider "azurerm" {
  source = "./tests/mocks"
}

variables {
  location       = "westeurope"
  project_name   = "myproject"
  environment    = "staging"
  deploy_backend = true
  backend_image  = "acrmyprojectstaging11e59.azurecr.io/sockerless/backend@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
}

run "app" {
  assert {
    condition     = azurerm_container_app.backend[0].name == "ca-myproject-staging" && azurerm_container_app.backend[0].revision_mode == "Single"
    error_message = "The app is ${azurerm_container_app.backend[0].name}."
  }
  assert {
    condition     = azurerm_container_app.backend[0].identity[0].identity_ids == toset([azurerm_user_assigned_identity.backend.id])
    error_message = "The app has another identity than the backend's."
  }
  assert {
    condition     = azurerm_container_app.backend[0].registry[0].server == "acrmyprojectstaging11e59.azurecr.io" && azurerm_container_app.backend[0].registry[0].identity == azurerm_user_assigned_identity.backend.id
    error_message = "Nobody pulls the image."
  }
  assert {
    condition     = [for i in azurerm_container_app.backend[0].ingress : "${i.external_enabled} ${i.target_port} ${i.transport} ${coalesce(i.allow_insecure_connections, false)}"] == ["true 9100 http false"]
    error_message = "The ingress is ${jsonencode(azurerm_container_app.backend[0].ingress)}."
  }
  assert {
    condition     = azurerm_container_app.backend[0].template[0].min_replicas == 1 && azurerm_container_app.backend[0].template[0].max_replicas == 1
    error_message = "There may be other than one backend."
  }
  assert {
    condition     = azurerm_container_app.backend[0].template[0].container[0].memory == "1Gi"
    error_message = "The memory does not go with the cores."
  }
}

# The backend's own configuration reads backend_env_deployed.sh in a Go test.
run "settings" {
  assert {
    condition     = output.backend_env == file("tests/backend_env_deployed.sh")
    error_message = "backend_env is: ${nonsensitive(output.backend_env)}"
  }
  assert {
    condition     = join("", [for e in azurerm_container_app.backend[0].template[0].container[0].env : "export ${e.name}='${e.value}'\n" if e.value != null && e.value != "" && !contains(["AZURE_CLIENT_ID", "SOCKERLESS_COPY_LIMIT"], e.name)]) == output.backend_env
    error_message = "The app is told something else than backend_env."
  }
  assert {
    condition     = one([for e in azurerm_container_app.backend[0].template[0].container[0].env : e.value if e.name == "AZURE_CLIENT_ID"]) == azurerm_user_assigned_identity.backend.client_id
    error_message = "The app does not know which identity is its own."
  }
}

run "right_on_the_state" {
  assert {
    condition     = azurerm_role_assignment.backend["tables"].scope == azurerm_storage_account.this.id && azurerm_role_assignment.backend["tables"].role_definition_name == "Storage Table Data Contributor"
    error_message = "The backend has no right on its table."
  }
}

run "token" {
  assert {
    condition     = can(regex("^[0-9a-f]{64}$", output.backend_token))
    error_message = "The token is none."
  }
  assert {
    condition     = [for e in azurerm_container_app.backend[0].template[0].container[0].env : e.secret_name if e.name == "SOCKERLESS_TOKEN"] == nonsensitive([for s in azurerm_container_app.backend[0].secret : s.name])
    error_message = "The token is not a secret of the app."
  }
  assert {
    condition     = !strcontains(jsonencode(azurerm_container_app.backend[0].template), nonsensitive(output.backend_token))
    error_message = "The token is in the template."
  }
  assert {
    condition     = nonsensitive([for s in azurerm_container_app.backend[0].secret : s.value]) == [nonsensitive(output.backend_token)]
    error_message = "The app has another token than the frontends."
  }
}

run "another_token" {
  variables {
    backend_token_version = 2
  }
  assert {
    condition     = output.backend_token != run.token.backend_token
    error_message = "The token is the one before."
  }
  assert {
    condition     = nonsensitive([for s in azurerm_container_app.backend[0].secret : s.name]) == ["token-${substr(sha256(nonsensitive(output.backend_token)), 0, 8)}"]
    error_message = "The app would go on with the token before."
  }
}

run "outputs" {
  assert {
    condition     = output.backend_url == "https://ca-myproject-staging.calmsea-0123abcd.westeurope.azurecontainerapps.io" && output.callback_url == output.backend_url
    error_message = "The backend is at ${output.backend_url}, and containers call ${output.callback_url}."
  }
  assert {
    condition     = output.frontend_command == "sockerless-frontend-docker -backend ${output.backend_url} -token-file sockerless.token -addr unix:///tmp/sockerless.sock"
    error_message = "The frontend is started by: ${output.frontend_command}"
  }
}

run "public_images" {
  variables {
    backend_image = "ghcr.io/sockerless/backend:1.0"
    agent_image   = "ghcr.io/sockerless/agent:1.0"
    backend_cpu   = 0.25
  }
  assert {
    condition     = length(azurerm_container_app.backend[0].registry) == 0
    error_message = "A public image is pulled with an identity."
  }
  assert {
    condition     = one([for e in azurerm_container_app.backend[0].template[0].container[0].env : e.value if e.name == "SOCKERLESS_ACA_AGENT_IMAGE"]) == "ghcr.io/sockerless/agent:1.0"
    error_message = "The backend does not know the agent's image."
  }
  assert {
    condition     = azurerm_container_app.backend[0].template[0].container[0].memory == "0.5Gi"
    error_message = "The memory does not go with the cores."
  }
}
