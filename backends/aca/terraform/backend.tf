# The backend in the environment itself, so that a laptop needs nothing but the frontend. It is not there unless deploy_backend is set.

locals {
  backend_name = "ca-${local.stem}"
  backend_url  = "https://${local.backend_name}.${azurerm_container_app_environment.this.default_domain}" # known before the app

  # What frontends show. It is derived from the account's key, which nobody can guess and which opens the backend's state
  # anyway, rather than made by a provider of its own. It changes with the key, and with backend_token_version.
  backend_token = sha256("sockerless frontends ${var.backend_token_version} ${azurerm_storage_account.this.primary_access_key}")

  # Changing a secret changes no app that runs: another name makes another revision.
  backend_token_secret = "token-${substr(nonsensitive(sha256(local.backend_token)), 0, 8)}"
  backend_image        = var.backend_image == null ? "" : var.backend_image
}

resource "azurerm_container_app" "backend" {
  count = var.deploy_backend ? 1 : 0

  name                         = local.backend_name
  resource_group_name          = azurerm_resource_group.this.name
  container_app_environment_id = azurerm_container_app_environment.this.id
  workload_profile_name        = "Consumption" # Azure says so if nobody does, and azurerm then takes it back for ever
  revision_mode                = "Single"      # of two backends one acts; the one before goes when the next takes connections
  tags                         = local.tags

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.backend.id]
  }

  # AcrPush, which the identity has for what docker load brings, lets it pull. A public image needs nobody.
  dynamic "registry" {
    for_each = startswith(local.backend_image, "${azurerm_container_registry.this.login_server}/") ? [azurerm_container_registry.this.login_server] : []
    content {
      server   = registry.value
      identity = azurerm_user_assigned_identity.backend.id
    }
  }

  secret {
    name  = local.backend_token_secret
    value = local.backend_token
  }

  ingress {
    external_enabled = true
    target_port      = 9100
    transport        = "http" # WebSockets run on HTTP/1.1

    traffic_weight {
      latest_revision = true
      percentage      = 100
    }
  }

  # Container Apps' own probes are right, which only open a connection: a new backend answers 503 until the one before has
  # given the state up, and that one is ended when the new one counts as ready.
  template {
    min_replicas                     = 1
    max_replicas                     = 1
    termination_grace_period_seconds = 30

    container {
      name   = "backend"
      image  = local.backend_image
      cpu    = var.backend_cpu
      memory = "${var.backend_cpu * 2}Gi"

      dynamic "env" {
        for_each = merge(local.backend_settings, {
          AZURE_CLIENT_ID       = azurerm_user_assigned_identity.backend.client_id
          SOCKERLESS_COPY_LIMIT = var.backend_cpu < 0.5 ? "512m" : "1g" # half of the disk that goes with so many cores
        })
        content {
          name  = env.key
          value = env.value
        }
      }

      env {
        name        = "SOCKERLESS_TOKEN"
        secret_name = local.backend_token_secret
      }

      volume_mounts {
        name = "data"
        path = "/var/lib/sockerless"
      }
    }

    # It outlives the container, and goes with the replica.
    volume {
      name         = "data"
      storage_type = "EmptyDir"
    }
  }

  lifecycle {
    precondition {
      condition     = var.backend_image != null
      error_message = "deploy_backend needs backend_image: sockerless push-images prints it."
    }
    precondition {
      condition     = var.callback_url == null
      error_message = "deploy_backend and callback_url exclude each other: containers reach the backend that is deployed at its own address."
    }
    precondition {
      condition     = !var.internal_load_balancer
      error_message = "deploy_backend needs an environment with a public address: nothing here makes an internal one's names known to your machine."
    }
  }

  # It pulls its image and acts from its first second on.
  depends_on = [azurerm_role_assignment.backend, azurerm_role_assignment.pull]
}
