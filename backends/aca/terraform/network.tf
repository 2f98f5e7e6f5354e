resource "azurerm_virtual_network" "this" {
  name                = "vnet-${local.stem}"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  address_space       = [var.address_space]
  tags                = local.tags
}

locals {
  prefix_length = tonumber(split("/", var.address_space)[1])
  jobs_prefix   = cidrsubnet(var.address_space, max(0, 23 - local.prefix_length), 0)
}

resource "azurerm_subnet" "jobs" {
  name                 = "snet-jobs"
  resource_group_name  = azurerm_resource_group.this.name
  virtual_network_name = azurerm_virtual_network.this.name
  address_prefixes     = [local.jobs_prefix]

  # An environment with workload profiles takes no subnet that is not delegated to it.
  delegation {
    name = "container-apps"

    service_delegation {
      name    = "Microsoft.App/environments"
      actions = ["Microsoft.Network/virtualNetworks/subnets/join/action"]
    }
  }
}

locals {
  # What may come in. The subnet's own rule is the platform's wish: replicas and its load balancer talk among themselves.
  inbound = {
    agent    = { priority = 100, protocol = "Tcp", source = var.address_space, destination = local.jobs_prefix, port = "9111", description = "A backend in the virtual network dials the agents." }
    platform = { priority = 110, protocol = "*", source = local.jobs_prefix, destination = local.jobs_prefix, port = "*", description = "Container Apps within its own subnet." }
    probes   = { priority = 120, protocol = "Tcp", source = "AzureLoadBalancer", destination = local.jobs_prefix, port = "30000-32767", description = "Health probes of the environment's load balancer." }
  }

  # What must go out. Without restrict_outbound Azure's own rules let the rest out too.
  outbound = {
    https    = { priority = 100, protocol = "Tcp", source = "*", destination = "Internet", port = "443", description = "Registries, Entra, Azure Monitor, an https callback URL." }
    network  = { priority = 110, protocol = "*", source = "*", destination = "VirtualNetwork", port = "*", description = "Container Apps within its subnet, and a backend in the virtual network." }
    time     = { priority = 120, protocol = "Udp", source = "*", destination = "Internet", port = "123", description = "The platform's clocks." }
    names    = { priority = 130, protocol = "*", source = "*", destination = "168.63.129.16", port = "53", description = "Azure's DNS." }
    files    = { priority = 140, protocol = "Tcp", source = "*", destination = "Storage", port = "445", description = "Azure Files." }
    refusals = { priority = 4096, protocol = "*", source = "*", destination = "*", port = "*", description = "Everything else." }
  }
}

# What reaches a public environment from outside passes its load balancer, not these rules: they hold within the network.
resource "azurerm_network_security_group" "jobs" {
  name                = "nsg-${local.stem}"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  tags                = local.tags

  dynamic "security_rule" {
    for_each = local.inbound
    content {
      name                       = "in-${security_rule.key}"
      description                = security_rule.value.description
      direction                  = "Inbound"
      access                     = "Allow"
      priority                   = security_rule.value.priority
      protocol                   = security_rule.value.protocol
      source_address_prefix      = security_rule.value.source
      source_port_range          = "*"
      destination_address_prefix = security_rule.value.destination
      destination_port_range     = security_rule.value.port
    }
  }

  # Azure's default lets the whole virtual network in.
  security_rule {
    name                       = "in-refusals"
    description                = "Nothing else comes in."
    direction                  = "Inbound"
    access                     = "Deny"
    priority                   = 4096
    protocol                   = "*"
    source_address_prefix      = "*"
    source_port_range          = "*"
    destination_address_prefix = "*"
    destination_port_range     = "*"
  }

  dynamic "security_rule" {
    for_each = { for name, rule in local.outbound : name => rule if name != "refusals" || var.restrict_outbound }
    content {
      name                       = "out-${security_rule.key}"
      description                = security_rule.value.description
      direction                  = "Outbound"
      access                     = security_rule.key == "refusals" ? "Deny" : "Allow"
      priority                   = security_rule.value.priority
      protocol                   = security_rule.value.protocol
      source_address_prefix      = security_rule.value.source
      source_port_range          = "*"
      destination_address_prefix = security_rule.value.destination
      destination_port_range     = security_rule.value.port
    }
  }
}

resource "azurerm_subnet_network_security_group_association" "jobs" {
  subnet_id                 = azurerm_subnet.jobs.id
  network_security_group_id = azurerm_network_security_group.jobs.id
}

resource "azurerm_private_dns_zone" "this" {
  name                = var.private_dns_zone_name == null ? "${local.stem}.internal" : var.private_dns_zone_name
  resource_group_name = azurerm_resource_group.this.name
  tags                = local.tags
}

# Machines of the virtual network register themselves, so that a callback URL can name the backend's. Executions of jobs are
# not registered by anybody.
resource "azurerm_private_dns_zone_virtual_network_link" "this" {
  name                 = "link-${local.stem}"
  private_dns_zone_id  = azurerm_private_dns_zone.this.id
  virtual_network_id   = azurerm_virtual_network.this.id
  registration_enabled = true
  tags                 = local.tags
}
