# terraform apply -var="location=westeurope" -var="project_name=myproject" -var="environment=staging", and what it makes.

mock_provider "azurerm" {
  source = "./tests/mocks"
}

variables {
  location     = "westeurope"
  project_name = "myproject"
  environment  = "staging"
}

run "names" {
  assert {
    condition     = azurerm_resource_group.this.name == "rg-myproject-staging"
    error_message = "The group is ${azurerm_resource_group.this.name}."
  }
  assert {
    condition     = azurerm_container_registry.this.name == "acrmyprojectstaging${substr(sha256("00000000-0000-4000-8000-000000000001"), 0, 5)}"
    error_message = "The registry is ${azurerm_container_registry.this.name}."
  }
  assert {
    condition     = can(regex("^[a-z0-9]{5,50}$", azurerm_container_registry.this.name)) && can(regex("^[a-z0-9]{3,24}$", azurerm_storage_account.this.name))
    error_message = "Azure would refuse ${azurerm_container_registry.this.name} or ${azurerm_storage_account.this.name}."
  }
  assert {
    condition     = azurerm_resource_group.this.tags == tomap({ project = "myproject", environment = "staging", managed-by = "terraform" })
    error_message = "The tags are ${jsonencode(azurerm_resource_group.this.tags)}."
  }
}

run "network" {
  assert {
    condition     = azurerm_subnet.jobs.address_prefixes == tolist(["10.64.0.0/23"])
    error_message = "The subnet is ${jsonencode(azurerm_subnet.jobs.address_prefixes)}."
  }
  assert {
    condition     = azurerm_subnet.jobs.delegation[0].service_delegation[0].name == "Microsoft.App/environments"
    error_message = "The subnet is not the environment's."
  }
  assert {
    condition = { for r in azurerm_network_security_group.jobs.security_rule : r.name => "${r.access} ${r.protocol} ${r.source_address_prefix} ${r.destination_port_range}" if r.direction == "Inbound" } == {
      in-agent    = "Allow Tcp 10.64.0.0/16 9111"
      in-platform = "Allow * 10.64.0.0/23 *"
      in-probes   = "Allow Tcp AzureLoadBalancer 30000-32767"
      in-refusals = "Deny * * *"
    }
    error_message = "Other things come in: ${jsonencode([for r in azurerm_network_security_group.jobs.security_rule : r.name if r.direction == "Inbound"])}."
  }
  assert {
    condition     = [for r in azurerm_network_security_group.jobs.security_rule : r.name if r.direction == "Outbound" && r.access == "Deny"] == []
    error_message = "Something may not go out."
  }
  assert {
    condition     = one([for r in azurerm_network_security_group.jobs.security_rule : r.destination_port_range if r.name == "out-https"]) == "443"
    error_message = "HTTPS may not go out."
  }
  assert {
    condition     = length(distinct([for r in azurerm_network_security_group.jobs.security_rule : "${r.direction} ${r.priority}"])) == length(azurerm_network_security_group.jobs.security_rule)
    error_message = "Two rules have one priority."
  }
  assert {
    condition     = azurerm_subnet_network_security_group_association.jobs.network_security_group_id == azurerm_network_security_group.jobs.id
    error_message = "The rules hold for no subnet."
  }
  assert {
    condition     = azurerm_private_dns_zone.this.name == "myproject-staging.internal" && azurerm_private_dns_zone_virtual_network_link.this.virtual_network_id == azurerm_virtual_network.this.id
    error_message = "The zone is not the network's."
  }
}

run "environment" {
  assert {
    condition     = azurerm_container_app_environment.this.log_analytics_workspace_id == azurerm_log_analytics_workspace.this.id && azurerm_container_app_environment.this.infrastructure_subnet_id == azurerm_subnet.jobs.id
    error_message = "The environment is not linked to workspace and subnet."
  }
  assert {
    condition     = [for p in azurerm_container_app_environment.this.workload_profile : p.workload_profile_type] == ["Consumption"]
    error_message = "The environment's profiles are not Consumption alone."
  }
  assert {
    condition     = azurerm_container_app_environment_storage.this["volumes"].share_name == "volumes" && azurerm_container_app_environment_storage.this["volumes"].access_key == azurerm_storage_account.this.primary_access_key
    error_message = "The share is no storage of the environment."
  }
}

# Every right of the backend, and no other. A table's is switches.tftest.hcl's.
run "rights" {
  assert {
    condition = { for a in azurerm_role_assignment.backend : a.role_definition_name => a.scope } == {
      "Container Apps Jobs Contributor"                = azurerm_resource_group.this.id
      "Container Apps ManagedEnvironments Contributor" = azurerm_container_app_environment.this.id
      "Managed Identity Operator"                      = azurerm_user_assigned_identity.pull.id
      "Log Analytics Reader"                           = azurerm_log_analytics_workspace.this.id
      "AcrPush"                                        = azurerm_container_registry.this.id
    }
    error_message = "The backend's rights are ${jsonencode({ for a in azurerm_role_assignment.backend : a.role_definition_name => a.scope })}."
  }
  assert {
    condition     = alltrue([for a in azurerm_role_assignment.backend : a.principal_id == azurerm_user_assigned_identity.backend.principal_id && length(a.description) > 0])
    error_message = "A right is somebody else's, or has no reason."
  }
  assert {
    condition     = azurerm_role_assignment.pull.role_definition_name == "AcrPull" && azurerm_role_assignment.pull.scope == azurerm_container_registry.this.id && azurerm_role_assignment.pull.principal_id == azurerm_user_assigned_identity.pull.principal_id
    error_message = "The identity that pulls cannot."
  }
  assert {
    condition     = azurerm_user_assigned_identity.pull.principal_id != azurerm_user_assigned_identity.backend.principal_id && length(azurerm_role_assignment.principal) == 0
    error_message = "Somebody else has rights."
  }
}

# The backend's own configuration reads backend_env.sh in a Go test.
run "outputs" {
  assert {
    condition     = output.backend_env == file("tests/backend_env.sh")
    error_message = "backend_env differs from tests/backend_env.sh: ${nonsensitive(output.backend_env)}"
  }
  assert {
    condition     = output.log_analytics_workspace_id == azurerm_log_analytics_workspace.this.workspace_id
    error_message = "The workspace is not named by its customer id."
  }
  assert {
    condition = [output.acr_login_server, output.resource_group_name, output.managed_environment_name, output.storage_account_name, output.callback_url] == [
    "acrmyprojectstaging11e59.azurecr.io", "rg-myproject-staging", "cae-myproject-staging", azurerm_storage_account.this.name, ""]
    error_message = "The outputs are not those of the walk-through."
  }
  assert {
    condition     = output.frontend_command == "sockerless-frontend-docker -backend http://localhost:9100 -addr unix:///tmp/sockerless.sock"
    error_message = "The frontend is started by: ${output.frontend_command}"
  }
  assert {
    condition     = length(azurerm_container_app.backend) == 0 && output.backend_url == "" && nonsensitive(output.backend_token) == ""
    error_message = "There is a backend that nobody asked for."
  }
}
