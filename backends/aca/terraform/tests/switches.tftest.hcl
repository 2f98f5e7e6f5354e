# What each switch changes.

mock_provider "azurerm" {
  source = "./tests/mocks"
}

variables {
  location     = "westeurope"
  project_name = "myproject"
  environment  = "staging"
}

run "callback_url_and_state_table" {
  variables {
    callback_url = "https://backend.example.com/"
    state_table  = "sockerless"
  }
  assert {
    condition     = output.backend_env == file("tests/backend_env_all.sh")
    error_message = "backend_env is: ${nonsensitive(output.backend_env)}"
  }
  assert {
    condition     = output.callback_url == "https://backend.example.com"
    error_message = "The callback URL is ${output.callback_url}."
  }
  assert {
    condition     = output.frontend_command == "sockerless-frontend-docker -backend https://backend.example.com -token-file sockerless.token -addr unix:///tmp/sockerless.sock"
    error_message = "The frontend is started by: ${output.frontend_command}"
  }
}

# The rights that a Go test gives to a backend, and takes from it one by one.
run "rights" {
  variables {
    state_table = "sockerless"
  }
  assert {
    condition = jsondecode(file("tests/rights.json")) == {
      for name, a in merge(azurerm_role_assignment.backend, { pull = azurerm_role_assignment.pull }) : name => {
        principal = a.principal_id == azurerm_user_assigned_identity.backend.principal_id ? "backend" : "pull"
        role      = a.role_definition_name
        scope     = a.scope
      }
    }
    error_message = "tests/rights.json should have the role, the scope and the principal of ${jsonencode({ for name, a in azurerm_role_assignment.backend : name => [a.role_definition_name, a.scope] })}."
  }
}

run "volumes_and_builds" {
  variables {
    volumes_and_builds = true
  }
  assert {
    condition = { for name in ["shares", "build", "import"] : azurerm_role_assignment.backend[name].role_definition_name => azurerm_role_assignment.backend[name].scope } == {
      "Storage Account Contributor"                      = azurerm_storage_account.this.id
      "Container Registry Tasks Contributor"             = azurerm_container_registry.this.id
      "Container Registry Data Importer and Data Reader" = azurerm_container_registry.this.id
    }
    error_message = "The rights are ${jsonencode({ for a in azurerm_role_assignment.backend : a.role_definition_name => a.scope })}."
  }
}

run "restrict_outbound" {
  variables {
    restrict_outbound = true
  }
  assert {
    condition = { for r in azurerm_network_security_group.jobs.security_rule : r.name => "${r.access} ${r.protocol} ${r.destination_address_prefix} ${r.destination_port_range}" if r.direction == "Outbound" } == {
      out-https    = "Allow Tcp Internet 443"
      out-network  = "Allow * VirtualNetwork *"
      out-time     = "Allow Udp Internet 123"
      out-names    = "Allow * 168.63.129.16 53"
      out-files    = "Allow Tcp Storage 445"
      out-refusals = "Deny * * *"
    }
    error_message = "Other things go out."
  }
}

run "small_network" {
  variables {
    address_space = "192.168.7.0/26"
  }
  assert {
    condition     = azurerm_subnet.jobs.address_prefixes == tolist(["192.168.7.0/26"])
    error_message = "The subnet is ${jsonencode(azurerm_subnet.jobs.address_prefixes)}."
  }
}

run "gpu_profile" {
  variables {
    gpu_profile = "Consumption-GPU-NC8as-T4"
  }
  assert {
    condition     = { for p in azurerm_container_app_environment.this.workload_profile : p.name => p.workload_profile_type } == { Consumption = "Consumption", gpu = "Consumption-GPU-NC8as-T4" }
    error_message = "The profiles are ${jsonencode(azurerm_container_app_environment.this.workload_profile)}."
  }
}

run "backend_principals" {
  variables {
    backend_principals = ["00000000-0000-4000-8000-0000000000e1"]
  }
  assert {
    condition     = { for a in azurerm_role_assignment.principal : a.role_definition_name => a.scope } == { for a in azurerm_role_assignment.backend : a.role_definition_name => a.scope }
    error_message = "A principal has other rights than the backend's identity."
  }
  assert {
    condition     = alltrue([for a in azurerm_role_assignment.principal : a.principal_id == "00000000-0000-4000-8000-0000000000e1"])
    error_message = "A right is somebody else's."
  }
}

run "other_names" {
  variables {
    name_suffix           = "x7"
    private_dns_zone_name = "containers.example.internal"
    shares                = { data = 10, cache = 20 }
    tags                  = { owner = "me" }
  }
  assert {
    condition     = azurerm_storage_account.this.name == "stmyprojectstagingx7" && azurerm_container_registry.this.name == "acrmyprojectstagingx7"
    error_message = "The suffix is not in ${azurerm_storage_account.this.name}."
  }
  assert {
    condition     = azurerm_private_dns_zone.this.name == "containers.example.internal"
    error_message = "The zone is ${azurerm_private_dns_zone.this.name}."
  }
  assert {
    condition     = { for name, s in azurerm_container_app_environment_storage.this : name => s.share_name } == { data = "data", cache = "cache" } && azurerm_storage_share.this["cache"].quota == 20
    error_message = "The shares are not those that were asked for."
  }
  assert {
    condition     = azurerm_container_registry.this.tags["owner"] == "me" && azurerm_container_registry.this.tags["managed-by"] == "terraform"
    error_message = "The tags are ${jsonencode(azurerm_container_registry.this.tags)}."
  }
}
